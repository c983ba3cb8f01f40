"""The cloud's side: an HTTP service that finishes what devices begin.

    python -m keras_ddnn.serve.cloud RUN --port 8000

Of three tiers or more, a tier between is both, a service and a device:

    python -m keras_ddnn.serve.cloud TIERS/1 --port 8001
    python -m keras_ddnn.serve.cloud TIERS/0 --port 8000 --upstream http://HOST:8001

It gathers requests into batches, and shows at `/` where it works on the curve of its artefact.
"""

import argparse
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    from keras_ddnn.files.checks import require_count, require_positive
    from keras_ddnn.files.signals import ending_of, interruptible
    from keras_ddnn.serve.cloud.listening import bound_socket, room_for_connections, tls_context
    from keras_ddnn.serve.cloud.network import load_cloud
    from keras_ddnn.serve.cloud.service import MAX_BATCH, MAX_DELAY, MAX_QUEUE, MAX_WAIT, make_app
    from keras_ddnn.serve.protocol.limits import MAX_BYTES
    from keras_ddnn.serve.protocol.token_file import read_token


def main() -> None:
    """Serve an artefact until a signal; what is queued then is still answered.

    The exit code is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    parser = _parser()
    options = parser.parse_args()
    with interruptible() as received:
        try:
            _serve(options)
        except (OSError, ValueError) as error:
            parser.exit(2, f"error: {' '.join(str(error).split())}\n")
        except KeyboardInterrupt:  # uvicorn raises the signal again, once it has answered
            code, word = ending_of(received)
            parser.exit(code, f"{word}: the service has ended\n")


def _serve(options: argparse.Namespace) -> None:
    from keras_ddnn.serve.cloud.logs import log_to_stderr
    from keras_ddnn.serve.cloud.server import MAX_CONNECTIONS, server_of

    require_count(max_batch=options.max_batch, queue=options.queue)
    require_positive(max_delay_ms=options.max_delay_ms)
    if not 0.0 <= options.max_wait_ms < float("inf"):
        raise ValueError(f"max_wait_ms must be at least 0; received {options.max_wait_ms}")
    if options.max_bytes is not None:
        require_count(max_bytes=options.max_bytes)
    token = options.token_file and read_token(options.token_file)
    tls = _tls(options)
    room = room_for_connections(MAX_CONNECTIONS)
    listener = bound_socket(options.host, options.port)
    _require_guard(listener, options, token, tls)
    # All that can be refused at once has been, for this takes seconds.
    network, manifest, identity = _load(options)
    app = make_app(
        network,
        manifest,
        identity=identity,
        token=token,
        hosts={"localhost", socket.gethostname(), options.host, *options.allow_host},
        max_bytes=options.max_bytes,
        max_batch=options.max_batch,
        max_wait=options.max_wait_ms / 1000,
        max_queue=options.queue,
        max_delay=options.max_delay_ms / 1000,
    )
    log_to_stderr()
    address = f"{'https' if tls else 'http'}://{options.host}:{listener.getsockname()[1]}"
    print(f"serving {options.run}, model {identity}, at {address}", file=sys.stderr)
    server_of(app, most=room, tls=tls).run(sockets=[listener])


def _load(options: argparse.Namespace):
    """Return what `make_app` needs: of the last tier, or of one with a tier behind it."""
    if options.upstream is None:
        if options.onward is not None:
            raise ValueError("expected --upstream, which service to ask; received --onward alone")
        return load_cloud(options.run, options.verify_key)
    with extras_of_a_command():
        from keras_ddnn.serve.cloud.fog import load_fog
    token = options.upstream_token_file
    return load_fog(
        options.run,
        options.upstream,
        options.onward,
        verify_key=options.verify_key,
        deadline_s=options.upstream_deadline_ms / 1000,
        reserve=options.reserve_ms / 1000,
        token=token and read_token(token),
        ca=options.upstream_ca,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", help="an artefact, or the output folder of a search")
    add("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    add("--port", type=int, default=8000, help="0 takes any that is free (%(default)s)")
    add("--token-file", type=Path, help="a file with the token to ask for")
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    add("--no-token", action="store_true", help="let other machines ask without a token")
    add(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names by which requests may call this service, beside its addresses, --host, "
        "localhost and this machine's own name",
    )
    add("--tls-certificate", type=Path, help="a PEM file, to serve https")
    add("--tls-key", type=Path, help="the PEM file of its private key")
    add(
        "--max-bytes",
        type=int,
        help=f"of a request's body (by default a full batch, at least {MAX_BYTES})",
    )
    add("--max-batch", type=int, default=MAX_BATCH, help="samples (%(default)s)")
    add(
        "--max-wait-ms",
        type=float,
        default=1000 * MAX_WAIT,
        help="how long a sample may wait for others (%(default)s)",
    )
    add("--queue", type=int, default=MAX_QUEUE, help="samples that may wait (%(default)s)")
    add(
        "--max-delay-ms",
        type=float,
        default=1000 * MAX_DELAY,
        help="refuse what would wait longer for its turn (%(default)s)",
    )
    behind = parser.add_argument_group("a tier between, with a service behind it").add_argument
    behind("--upstream", metavar="URL", help="of the service to ask; RUN's devices ask this one")
    behind("--onward", help="the artefact that this tier runs (the folder of the next number)")
    behind("--upstream-token-file", type=Path, help="a file with that service's token")
    behind("--upstream-ca", type=Path, help="a PEM file that signs that service's certificate")
    behind(
        "--upstream-deadline-ms",
        type=float,
        default=200.0,
        help="for its answer, to requests that do not say how long they wait (%(default)s)",
    )
    behind(
        "--reserve-ms",
        type=float,
        default=50.0,
        help="of what a request waits, for the ways between it and this service (%(default)s)",
    )
    return parser


def _tls(options):
    """Return what serves https, or None."""
    pair = options.tls_certificate, options.tls_key
    if None not in pair:
        return tls_context(*pair)
    if pair != (None, None):
        raise ValueError("expected both --tls-certificate and --tls-key; received one of them")
    return None


def _require_guard(listener: socket.socket, options: argparse.Namespace, token, tls) -> None:
    """Refuse to serve other machines without a token, unless told to."""
    if ip_address(listener.getsockname()[0]).is_loopback:
        return
    if not token and not options.no_token:
        raise ValueError(
            f"expected --token-file where other machines can ask, at --host {options.host}; "
            f"--no-token serves everyone"
        )
    if token and not tls:
        print(
            "warning: the token travels unencrypted from other machines; see --tls-certificate",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
