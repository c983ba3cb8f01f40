"""The cloud's part of an artefact on Ray Serve: replicas, autoscaling, the same protocol.

    python -m keras_ddnn.serve.ray_app RUN --port 8000 --replicas 1 4

Devices talk to it as to `keras_ddnn.serve.cloud`. Each replica is that service, `make_app`, in a
process of its own, behind the HTTP proxy of Ray (https://docs.ray.io/en/latest/serve). So of the
tests of the service these hold here:

- what a request says and what is answered: `test_wire`, `test_cloud`, `test_protocol_client`,
  `test_batching`, `test_cloud_graph`; statuses, the token, the names of hosts, the longest body and
  a body that comes too slowly: the gate stands in each replica.

These do not, for Ray's proxy holds the connections:

- `test_cloud_crowd`: how many connections there may be, and how long one may be silent;
- TLS (`test_cloud`, `test_cloud_command`): let a load balancer end it before the proxy;
- the limits of memory and of refusals a second hold for each replica, not for the proxy;
- `/`, `/state` and `/metrics` tell of the one replica that the request came to. Ray's own metrics
  tell of all.

`GET /-/healthz` asks the proxy, `GET /v2/health/ready` a replica. Where a replica ends, the proxy
answers the requests that it held with 5xx, and the next try comes to another replica.
"""

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from keras_ddnn.files.checks import require_count
from keras_ddnn.files.extras import extras_of_a_command
from keras_ddnn.files.manifest import artifact_of, read_manifest
from keras_ddnn.files.notices import CommandParser, tell_error
from keras_ddnn.files.signals import ending_of, interruptible
from keras_ddnn.files.signature import Key
from keras_ddnn.serve.cloud.listening import add_access_options, require_token
from keras_ddnn.serve.protocol.token_file import read_token

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.types import ASGIApp

NAME = "ddnn"
ONGOING = 64  # requests of a replica at a time: two batches, of which one is computed
QUEUED = 1024  # requests that wait at the proxy; it answers more of them with 503
# Where so many requests of each replica are under way, one more is started.
TARGET_ONGOING = 16.0
CONNECT_SECONDS = 5.0
UPSCALE_SECONDS, DOWNSCALE_SECONDS = 5.0, 300.0


def ray_app(
    run: str | Path,
    *,
    replicas: tuple[int, int] = (1, 1),
    target_ongoing: float = TARGET_ONGOING,
    upscale_s: float = UPSCALE_SECONDS,
    downscale_s: float = DOWNSCALE_SECONDS,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    verify_key: Key | None = None,
    cpus: float = 1.0,
) -> "Application":
    """Return the service of an artefact as an application of Ray Serve, for `serve.run`.

    Args:
        run: The artefact, or the output folder of a search; on a path that all hosts see.
        replicas: The fewest and the most. Between them Ray starts and ends replicas by the load.
        target_ongoing: Requests under way for each replica, above which one more is started.
        upscale_s: Seconds that the load must be high before one is started.
        downscale_s: Seconds that it must be low before one is ended.
        token: What requests must carry as `Authorization: Bearer`; None for nothing.
        hosts: Names that requests may call the service by; None for any. See `make_app`.
        verify_key: A public key that the artefact must be signed by; see `read_manifest`.
        cpus: Cores that Ray keeps for each replica.

    Raises:
        ModuleNotFoundError: If Ray Serve is not installed.
        OSError: If the file of the key cannot be read.
        ValueError: If the artefact is damaged, or a number is out of range; before Ray starts.
    """
    fewest, most = replicas
    require_count(replicas=fewest)
    if most < fewest:
        raise ValueError(f"expected the fewest and the most replicas; received {fewest} and {most}")
    folder = artifact_of(Path(run).absolute())
    read_manifest(folder, verify_key)

    try:
        from ray import serve
    except ModuleNotFoundError as error:  # of Ray itself, or of what serves
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'keras_ddnn[ray-serve]'", name=error.name
        ) from error

    def build() -> "ASGIApp":
        """Make the service in the process of a replica."""
        from keras_ddnn.serve.cloud.network import load_cloud
        from keras_ddnn.serve.cloud.service import make_app

        network, manifest, identity = load_cloud(folder, verify_key)
        return make_app(network, manifest, identity=identity, token=token, hosts=hosts)

    deployment = serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        max_ongoing_requests=ONGOING,
        max_queued_requests=QUEUED,
        ray_actor_options={
            "num_cpus": cpus,
            "runtime_env": {"env_vars": {"TF_NUM_INTRAOP_THREADS": str(max(1, int(cpus)))}},
        },
        autoscaling_config={
            "min_replicas": fewest,
            "max_replicas": most,
            "target_ongoing_requests": target_ongoing,
            "upscale_delay_s": upscale_s,
            "downscale_delay_s": downscale_s,
        },
    )
    return deployment.bind()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve an artefact on Ray until a signal; return the exit code.

    It is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    options = _parser().parse_args(arguments)
    with interruptible() as received:
        try:
            return _serve(options)
        except (ModuleNotFoundError, OSError, ValueError) as error:
            tell_error(error)
            return 2
        except KeyboardInterrupt:
            code, word = ending_of(received)
            print(f"{word}: the service has ended", file=sys.stderr)
            return code


def _serve(options: argparse.Namespace) -> int:
    token = options.token_file and read_token(options.token_file)
    if options.host != "127.0.0.1":
        require_token(options, token)
    hosts = {"localhost", options.host, *options.allow_host}
    if len(options.replicas) > 2:
        raise ValueError(f"expected --replicas of one or two numbers; received {options.replicas}")
    app = ray_app(
        options.run,
        replicas=(options.replicas[0], options.replicas[-1]),
        token=token,
        hosts=hosts,
        verify_key=options.verify_key,
        cpus=options.cpus,
    )
    with serving(app, host=options.host, port=options.port, address=options.address) as url:
        print(f"serving {options.run} at {url}", file=sys.stderr)
        threading.Event().wait()
    return 0


@contextmanager
def serving(
    app: "Application", *, host: str = "127.0.0.1", port: int = 8000, address: str | None = None
) -> Iterator[str]:
    """Run an application on Ray; yield its URL once its replicas are ready, and end it.

    Args:
        app: Of `ray_app`.
        host: Address of the proxy.
        port: Of the proxy.
        address: Of a running Ray cluster; a Ray on this machine by default, which ends too.

    Raises:
        ConnectionError: If no cluster answers, or its proxy listens elsewhere.
        RuntimeError: If a replica cannot start.
    """
    import ray
    from ray import serve

    handler = signal.getsignal(signal.SIGTERM)
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        logging_level="error",
        log_to_driver=False,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own would abort, and leave Ray behind
    try:
        serve.start(http_options={"host": host, "port": port})
        serve.run(app, name=NAME, route_prefix="/")
        _require_listener(host, port)
        yield f"http://{host}:{port}"
    finally:
        if address:
            serve.delete(NAME)
        else:
            serve.shutdown()
        ray.shutdown()


def _require_listener(host: str, port: int) -> None:
    """Raise ConnectionError unless the proxy is where it was asked to be.

    A cluster that serves already keeps the proxy that it has, and Ray only warns.
    """
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"expected the proxy of Ray Serve at {host}:{port}; received {error}: the cluster "
            "serves already at another place; pass its --host and --port"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.serve.ray_app", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("run", help="an artefact, or the output folder of a search, on a path that all hosts see")
    add("--address", help="of a running Ray cluster; default: Ray on this machine")
    add("--host", default="127.0.0.1", help="address of the proxy (%(default)s)")
    add("--port", type=int, default=8000, help="(%(default)s)")
    add(
        "--replicas",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="how many, or the fewest and the most",
    )
    add("--cpus", type=float, default=1.0, help="of each replica (%(default)s)")
    add_access_options(parser)
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    return parser


if __name__ == "__main__":
    with extras_of_a_command():
        sys.exit(main())
