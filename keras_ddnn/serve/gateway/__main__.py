"""The command line of a gateway, which gathers the frames of several cameras.

    python -m keras_ddnn.serve.gateway RUN --cloud http://HOST:PORT --gather-ms 100

Each camera sends its frames to `/samples/ID/cameras/K` by PUT, and is told what the sample is. It
needs LiteRT and the HTTP server of the service, but neither TensorFlow nor Keras.
"""

import argparse

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    from keras_ddnn.files.notices import CommandParser, count, positive
    from keras_ddnn.serve.cloud.listening import (
        add_listening_options,
        listening_of,
        serve,
        until_a_signal,
    )
    from keras_ddnn.serve.edge.options import add_runtime_options, runtime_of
    from keras_ddnn.serve.gateway.gathering import GATHER, KEPT_SECONDS, MAX_KEPT, MAX_OPEN
    from keras_ddnn.serve.gateway.service import make_gateway


def main() -> None:
    """Gather and answer until a signal; what waits then is still answered.

    The exit code is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    until_a_signal(_parser(), _serve, "the gateway")


def _serve(options: argparse.Namespace) -> None:
    listening = listening_of(options)
    runtime = runtime_of(options)
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
    said = f"gathering for {options.run}, model {runtime.identity}"
    serve(app, listening, said, run=options.run, model=runtime.identity)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.serve.gateway",
        description="Gather the frames of several cameras by sample, and answer each sample once.",
    )
    add = parser.add_argument
    add("run", help="a run of a search, or an artefact that reads several cameras")
    add_runtime_options(parser, of_cloud="cloud-")
    add(
        "--gather-ms",
        type=positive,
        default=1000 * GATHER,
        help="that the other cameras are waited for after the first frame (%(default)s)",
    )
    add("--max-open", type=count, default=MAX_OPEN, help="samples that may wait (%(default)s)")
    add(
        "--keep-ms",
        type=positive,
        default=1000 * KEPT_SECONDS,
        help="that an answer is kept for late frames (%(default)s)",
    )
    add("--max-kept", type=count, default=MAX_KEPT, help="answers kept at most (%(default)s)")
    add_listening_options(parser, port=8080)
    return parser


if __name__ == "__main__":
    main()
