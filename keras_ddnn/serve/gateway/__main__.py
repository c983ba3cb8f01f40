"""The command line of a gateway, which gathers the frames of several cameras.

    python -m keras_ddnn.serve.gateway RUN --cloud http://HOST:PORT --gather-ms 100

Each camera sends its frames to `/samples/ID/cameras/K` by PUT, and is told what the sample is. It
needs LiteRT and the HTTP server of the service, but neither TensorFlow nor Keras.
"""

import argparse
from pathlib import Path

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    from keras_ddnn.files.checks import require_positive
    from keras_ddnn.files.manifest import EDGE_GRAPHS
    from keras_ddnn.files.notices import CommandParser, tell_event
    from keras_ddnn.serve.cloud.listening import (
        add_listening_options,
        listening_of,
        until_a_signal,
    )
    from keras_ddnn.serve.cloud.logs import log_to_stderr
    from keras_ddnn.serve.cloud.server import MAX_CONNECTIONS, server_of
    from keras_ddnn.serve.edge.runtime import EdgeRuntime
    from keras_ddnn.serve.gateway.gathering import GATHER, KEPT_SECONDS, MAX_KEPT, MAX_OPEN
    from keras_ddnn.serve.gateway.service import make_gateway
    from keras_ddnn.serve.protocol.limits import MAX_BYTES
    from keras_ddnn.serve.protocol.token_file import read_token


def main() -> None:
    """Gather and answer until a signal; what waits then is still answered.

    The exit code is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    until_a_signal(_parser(), _serve, "the gateway")


def _serve(options: argparse.Namespace) -> None:
    require_positive(gather_ms=options.gather_ms)
    listening = listening_of(options, MAX_CONNECTIONS)
    runtime = EdgeRuntime(
        options.run,
        options.cloud,
        graph=options.graph,
        deadline_s=options.deadline_ms / 1000,
        token=options.cloud_token_file and read_token(options.cloud_token_file),
        ca=options.cloud_ca,
        guarded=options.guard,
        max_bytes=options.max_bytes,
        verify_key=options.verify_key,
    )
    if options.cloud:
        # A cloud that is silent may come back; one that refuses this artefact will not.
        runtime.check()
        runtime.require_welcome()
    app = make_gateway(
        runtime,
        token=listening.token,
        hosts=listening.hosts,
        gather_s=options.gather_ms / 1000,
        max_open=options.max_open,
        kept_s=options.keep_ms / 1000,
        max_kept=options.max_kept,
    )
    log_to_stderr()
    said = f"gathering for {options.run}, model {runtime.identity}, at {listening.url}"
    tell_event("serving", said, run=options.run, model=runtime.identity, url=listening.url)
    server_of(app, most=listening.room, tls=listening.tls).run(sockets=[listening.listener])


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.serve.gateway",
        description="Gather the frames of several cameras by sample, and answer each sample once.",
    )
    add = parser.add_argument
    add("run", help="a run of a search, or an artefact that reads several cameras")
    add("--cloud", metavar="URL", help="the service; without, all is answered here")
    add("--cloud-token-file", type=Path, help="a file with that service's token")
    add("--cloud-ca", type=Path, help="a PEM file that signs that service's certificate")
    add("--deadline-ms", type=float, default=250.0, help="for its answer (%(default)s)")
    add(
        "--gather-ms",
        type=float,
        default=1000 * GATHER,
        help="that the other cameras are waited for after the first frame (%(default)s)",
    )
    add("--max-open", type=int, default=MAX_OPEN, help="samples that may wait (%(default)s)")
    add(
        "--keep-ms",
        type=float,
        default=1000 * KEPT_SECONDS,
        help="that an answer is kept for late frames (%(default)s)",
    )
    add("--max-kept", type=int, default=MAX_KEPT, help="answers kept at most (%(default)s)")
    add("--graph", choices=EDGE_GRAPHS, default="float")
    add("--guard", action="store_true", help="hold the local fraction, and audit what that costs")
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    add(
        "--max-bytes",
        type=int,
        default=MAX_BYTES,
        help="of a request body that the service takes (%(default)s)",
    )
    add_listening_options(parser, port=8080)
    return parser


if __name__ == "__main__":
    main()
