"""The command line of a device.

    python -m keras_ddnn.serve.edge RUN --cloud http://HOST:PORT --images FOLDER
    python -m keras_ddnn.serve.edge RUN --cloud http://HOST:PORT --check

It needs NumPy and LiteRT, but neither TensorFlow nor Keras.
"""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    import numpy as np

    from keras_ddnn.data.readers import BACKGROUND_HELP, SCALE_HELP
    from keras_ddnn.data.rows.sizes import FIT_HELP, Fit
    from keras_ddnn.files.checks import require_count
    from keras_ddnn.files.manifest import EDGE_GRAPHS
    from keras_ddnn.files.notices import add_forms, said_as
    from keras_ddnn.files.signals import ending_of, interruptible
    from keras_ddnn.serve.edge.benchmark import benchmark
    from keras_ddnn.serve.edge.metrics import served
    from keras_ddnn.serve.edge.runtime import EdgeRuntime
    from keras_ddnn.serve.edge.view import live_view, read_images, show_check, show_report
    from keras_ddnn.serve.protocol.limits import MAX_BYTES
    from keras_ddnn.serve.protocol.token_file import read_token


AS_TRAINED = "; as in training where the artefact says so"


def main(arguments=None) -> None:
    """Run a device over images and report, or check its cloud; see the top of the file."""
    parser = _parser()
    options = parser.parse_args(arguments)
    done = _Done()
    with said_as(options), interruptible() as received:
        try:
            return _run(options, done)
        except (OSError, ValueError) as error:
            parser.exit(2, f"error: {' '.join(str(error).split())}\n")
        except KeyboardInterrupt:
            code, word = ending_of(received)
            if done.outputs:
                done.show()
            parser.exit(code, f"{word}: {done.told}\n")


@dataclass
class _Done:
    """What a device has answered so far."""

    runtime: EdgeRuntime | None = None
    outputs: list[np.ndarray] = field(default_factory=list)
    labels: np.ndarray | None = None
    total: int = 0

    @property
    def told(self) -> str:
        count = sum(map(len, self.outputs))
        return (
            f"{count:,} of {self.total:,} images are classified"
            if count
            else "no image is classified yet"
        )

    def show(self) -> None:
        outputs = np.concatenate(self.outputs)
        labels = None if self.labels is None else self.labels[: len(outputs)]
        show_report(self.runtime, outputs, labels)


def _run(options, done: _Done) -> None:
    if options.benchmark:
        return benchmark(options.run, options.graph, options.benchmark)
    runtime = _runtime_of(options)
    if options.check:
        with runtime:
            found = runtime.check(options.batch)
        show_check(options.cloud, runtime, found, options.batch)
        sys.exit(2 if found.failure else 0)
    _classify(runtime, options, done)
    done.show()


def _runtime_of(options) -> EdgeRuntime:
    require_count(batch=options.batch)
    if options.check and not options.cloud:
        raise ValueError("--check expects --cloud, the service to check; received none")
    return EdgeRuntime(
        options.run,
        options.cloud,
        graph=options.graph,
        deadline_s=options.deadline_ms / 1000.0,
        token=options.token_file and read_token(options.token_file),
        ca=options.ca,
        share_images=options.share_images,
        guarded=options.guard,
        max_bytes=options.max_bytes,
        verify_key=options.verify_key,
    )


def _classify(runtime, options, done: _Done) -> None:
    """Answer about the images, a batch at a time."""
    done.runtime, metrics = runtime, runtime.metrics
    with ExitStack() as stack:
        stack.enter_context(runtime)
        if options.metrics_port is not None:
            address = options.metrics_host, options.metrics_port
            port = stack.enter_context(served(metrics.registry, *address))
            print(f"metrics: http://{options.metrics_host}:{port}/metrics", flush=True)
        if options.cloud:
            # A service that would answer nothing is better known before images are read.
            runtime.check(options.batch)
            runtime.require_welcome()
        images, labels = read_images(
            options.images,
            options.dataset,
            runtime.manifest,
            options.limit,
            channels=runtime.manifest["input_shape"][-1],
            background=options.background,
            scale=options.scale,
            fit=options.fit,
        )
        done.labels, done.total = labels, len(images)
        stack.enter_context(live_view(len(images), metrics, lambda: runtime.breaker))
        for start in range(0, len(images), options.batch):
            part = slice(start, start + options.batch)
            # An audit counts right and wrong answers.
            audits = labels is not None and runtime.task.measure.higher_is_better
            answer = runtime.predict(images[part], labels[part] if audits else None)
            done.outputs.append(answer.logits)
            runtime.require_welcome()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_ddnn.serve.edge",
        description="Classify images on this machine, asking a cloud service about the hard ones.",
    )
    add = parser.add_argument
    add("run", help="a run of a search, or an artefact")
    add("--cloud", metavar="URL", help="the service; without, all is answered here")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", help="a folder of images, in folders by class where known")
    source.add_argument("--dataset", help="test data by name or .npz file")
    source.add_argument("--benchmark", metavar="FILE", help="time this device for keras_ddnn.cuts")
    source.add_argument(
        "--check",
        action="store_true",
        help="ask the service once, about --batch black images, and say what is found",
    )
    add("--background", metavar="COLOUR", help=f"{BACKGROUND_HELP}{AS_TRAINED}")
    add("--scale", type=float, metavar="WHITE", help=f"{SCALE_HELP}{AS_TRAINED}")
    add("--fit", choices=get_args(Fit), help=f"{FIT_HELP}{AS_TRAINED}")
    add("--graph", choices=EDGE_GRAPHS, default="float")
    add("--deadline-ms", type=float, default=250.0, help="for an answer (%(default)s)")
    add("--token-file", type=Path, help="a file with the service's token")
    add("--ca", type=Path, help="a PEM file; the service's certificate is signed by one of these")
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    add("--limit", type=int, help="classify the first so many images only")
    add("--batch", type=int, default=1, help="images a call (%(default)s)")
    add(
        "--max-bytes",
        type=int,
        default=MAX_BYTES,
        help="of a request body that the service takes (%(default)s)",
    )
    add("--share-images", action="store_true", help="show them on the page")
    add("--guard", action="store_true", help="hold the local fraction, and audit what that costs")
    add("--metrics-port", type=int, help="serve counters to Prometheus at this port; 0: a free one")
    add("--metrics-host", default="127.0.0.1", help="and at this address (%(default)s)")
    add_forms(parser)
    return parser


if __name__ == "__main__":
    main()
