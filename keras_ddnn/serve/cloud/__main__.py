"""The cloud's side: an HTTP service that finishes what devices begin.

    python -m keras_ddnn.serve.cloud RUN --port 8000

Of three tiers or more, a tier between is both, a service and a device:

    python -m keras_ddnn.serve.cloud TIERS/1 --port 8001
    python -m keras_ddnn.serve.cloud TIERS/0 --port 8000 --upstream http://HOST:8001

Several artefacts are served side by side, each to the devices that run it. After a change of what
is at their paths, SIGUSR1 loads what is new, with no request lost; the first one is on the page:

    python -m keras_ddnn.serve.cloud NEW OLD

It gathers requests into batches, and shows at `/` where it works on the curve of its artefact.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    from keras_ddnn.files.manifest import artifact_of, model_id, read_manifest
    from keras_ddnn.files.notices import (
        CommandParser,
        count,
        not_negative,
        positive,
        require_beside,
    )
    from keras_ddnn.serve.cloud.kept import MAX_BYTES as MAX_KEPT
    from keras_ddnn.serve.cloud.kept import KeptSamples
    from keras_ddnn.serve.cloud.listening import (
        add_listening_options,
        listening_of,
        serve,
        until_a_signal,
    )
    from keras_ddnn.serve.cloud.network import load_cloud, require_graphs, served_manifest
    from keras_ddnn.serve.cloud.service import (
        MAX_BATCH,
        MAX_DELAY,
        MAX_QUEUE,
        MAX_WAIT,
        Service,
        make_app,
    )
    from keras_ddnn.serve.cloud.versions import Served
    from keras_ddnn.serve.protocol.batching import Unavailable
    from keras_ddnn.serve.protocol.limits import MAX_BYTES
    from keras_ddnn.serve.protocol.token_file import read_token


def main() -> None:
    """Serve an artefact until a signal; what is queued then is still answered.

    The exit code is 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    until_a_signal(_parser(), _serve, "the service")


def _serve(options: argparse.Namespace) -> None:
    require_beside(options, "--keep-bytes", "--keep")
    listening = listening_of(options)
    # All that can be refused at once has been, for this takes seconds.
    _when_told_to_reload(signal.SIG_IGN)  # else the signal ends what is not serving yet
    keep = options.keep and KeptSamples(options.keep, options.keep_bytes or MAX_KEPT)
    load = _loader(options)
    for run in options.run[1:]:  # the first is checked as it is loaded, which takes seconds
        require_graphs(artifact_of(run), read_manifest(artifact_of(run), options.verify_key))
    (network, manifest, identity), *others = load()
    app = make_app(
        network,
        manifest,
        identity=identity,
        others=others,
        keep=keep,
        token=listening.token,
        hosts=listening.hosts,
        max_bytes=options.max_bytes,
        max_batch=options.max_batch,
        max_wait=options.max_wait_ms / 1000,
        max_queue=options.queue,
        max_delay=options.max_delay_ms / 1000,
    )
    _when_told_to_reload(lambda *_: _reload(app, load))
    runs, models = options.run, app.versions.identities
    said = f"serving {', '.join(runs)}, model {', '.join(models)}"
    serve(app, listening, said, runs=runs, models=models)


def _when_told_to_reload(handler) -> None:
    if threading.current_thread() is threading.main_thread():  # to which signals come
        signal.signal(signal.SIGUSR1, handler)


def _reload(app: Service, load: Callable[[], list[Served]]) -> None:
    try:
        app.versions.reload(load)
    except Unavailable as error:
        print(f"warning: nothing is loaded, for {error}", file=sys.stderr)


def _loader(options: argparse.Namespace) -> Callable[[], list[Served]]:
    """Return what loads all artefacts.

    A network that it has loaded the last time is not loaded again; its recalibration is read anew.
    """
    if options.upstream is not None and len(options.run) > 1:
        raise ValueError(f"expected one RUN with --upstream; received {len(options.run)}")
    loaded: dict[str, Served] = {}

    def load() -> list[Served]:
        before = dict(loaded)
        loaded.clear()
        return [one(run, before) for run in options.run]

    def one(run: str, before: dict[str, Served]) -> Served:
        # Behind a tier between there is another artefact, which may be what is new.
        folder = artifact_of(run)
        if before and options.upstream is None and (known := model_id(folder)) in before:
            found = before[known]
            manifest = served_manifest(folder, options.verify_key, found.manifest)
            if manifest != found.manifest:
                found = found._replace(manifest=manifest)
        else:
            found = Served(*_load(run, options))
        return loaded.setdefault(found.identity, found)

    return load


def _load(run: str, options: argparse.Namespace):
    """Return what `make_app` needs: of the last tier, or of one with a tier behind it."""
    if options.upstream is None:
        if options.onward is not None:
            raise ValueError("expected --upstream, which service to ask; received --onward alone")
        return load_cloud(run, options.verify_key)
    with extras_of_a_command():
        from keras_ddnn.serve.cloud.fog import load_fog
    token = options.upstream_token_file
    return load_fog(
        run,
        options.upstream,
        options.onward,
        verify_key=options.verify_key,
        deadline_s=options.upstream_deadline_ms / 1000,
        reserve=options.reserve_ms / 1000,
        token=token and read_token(token),
        ca=options.upstream_ca,
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", nargs="+", help="artefacts, or the output folders of searches")
    add_listening_options(parser, port=8000)
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    add(
        "--max-bytes",
        type=count,
        help=f"of a request's body (by default a full batch, at least {MAX_BYTES})",
    )
    add("--max-batch", type=count, default=MAX_BATCH, help="samples (%(default)s)")
    add(
        "--max-wait-ms",
        type=not_negative,
        default=1000 * MAX_WAIT,
        help="how long a sample may wait for others (%(default)s)",
    )
    add("--keep", metavar="FOLDER", help="for images that devices send in the background, by class")
    add("--keep-bytes", type=count, help=f"of that folder ({MAX_KEPT})")
    add("--queue", type=count, default=MAX_QUEUE, help="samples that may wait (%(default)s)")
    add(
        "--max-delay-ms",
        type=positive,
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
        type=positive,
        default=200.0,
        help="for its answer, to requests that do not say how long they wait (%(default)s)",
    )
    behind(
        "--reserve-ms",
        type=not_negative,
        default=50.0,
        help="of what a request waits, for the ways between it and this service (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
