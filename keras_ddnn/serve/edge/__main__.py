"""The command line of a device.

    python -m keras_ddnn.serve.edge RUN --cloud http://HOST:PORT --images FOLDER
    python -m keras_ddnn.serve.edge RUN --images FOLDER --threshold=0.3 --output - --format jsonl
    python -m keras_ddnn.serve.edge RUN --cloud http://HOST:PORT --check

It needs NumPy and LiteRT, but neither TensorFlow nor Keras.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, get_args

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    import numpy as np

    from keras_ddnn.data.readers import BACKGROUND_HELP, SCALE_HELP
    from keras_ddnn.data.rows.sizes import FIT_HELP, Fit
    from keras_ddnn.files.atomic import replacing_file
    from keras_ddnn.files.checks import expect
    from keras_ddnn.files.notices import (
        CommandParser,
        add_forms,
        beside_result,
        count,
        of_option,
        require_beside,
        said_as,
        standard_output,
        tell_error,
    )
    from keras_ddnn.files.signals import ending_of, interruptible
    from keras_ddnn.serve.edge.options import add_runtime_options, runtime_of
    from keras_ddnn.serve.edge.runtime import EdgeRuntime
    from keras_ddnn.serve.edge.sending.background import MAX_BYTES as SPOOL_BYTES
    from keras_ddnn.serve.edge.sending.budget import SendingBudget
    from keras_ddnn.serve.edge.telling.benchmark import benchmark
    from keras_ddnn.serve.edge.telling.metrics import served
    from keras_ddnn.serve.edge.telling.predictions import Format, as_text, rows_of
    from keras_ddnn.serve.edge.telling.view import Progress, read_samples, show_check, show_report


STDOUT = "-"
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
            tell_error(error)
            parser.exit(2)
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
    output: str | None = None
    form: Format = "csv"
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def stream(self) -> TextIO | None:
        """Where people are told what happens, if not on standard output as usual."""
        return beside_result() if self.output == STDOUT else None

    @property
    def told(self) -> str:
        count = sum(map(len, self.outputs))
        return (
            f"{count:,} of {self.total:,} images are classified"
            if count
            else "no image is classified yet"
        )

    def tell(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take predictions: for standard output they are printed, for a file kept."""
        rows = list(rows)
        if self.output == STDOUT:
            text = as_text(rows, self.form, header=not self.rows)
            print(text, end="", file=standard_output(), flush=True)
            rows = rows[:1]  # which says that there is a header
        self.rows += rows

    def show(self) -> None:
        """Print the report, and write predictions to their file."""
        if self.output not in (None, STDOUT):
            with replacing_file(self.output) as file:
                file.write(as_text(self.rows, self.form, header=True).encode())
        outputs = np.concatenate(self.outputs)
        labels = None if self.labels is None else self.labels[: len(outputs)]
        show_report(self.runtime, outputs, labels, self.stream)


def _run(options, done: _Done) -> None:
    if options.benchmark:
        return benchmark(options.run, options.graph, options.benchmark)
    runtime = _runtime_of(options)
    if options.check:
        with runtime:
            found = runtime.check(options.batch)
        show_check(options.cloud, runtime, found, options.batch)
        sys.exit(2 if found.failure else 0)
    done.output, done.form = options.output, options.format or "csv"
    if done.output == STDOUT and options.form == "json":
        raise ValueError(
            "expected predictions or the report on standard output; received --output - and "
            "--json, which ask for both: give --output a file"
        )
    if done.output not in (None, STDOUT):
        parent = Path(done.output).absolute().parent
        fits = os.access(parent, os.W_OK) and not Path(done.output).is_dir()
        expect(fits, "--output", "a file in a folder that can be written", done.output)
    _classify(runtime, options, done)
    done.show()


def _runtime_of(options) -> EdgeRuntime:
    require_beside(options, "--format", "--output")
    require_beside(options, "--spool-bytes", "--spool")
    require_beside(options, "--spool", "--cloud")
    require_beside(options, "--spool", "--guard", without=True)
    if options.check and not options.cloud:
        raise ValueError("--check expects --cloud, the service to check; received none")
    runtime = runtime_of(
        options,
        share_images=options.share_images,
        budget=SendingBudget(options.max_samples_per_minute, options.max_bytes_per_minute),
        spool=options.spool,
        spool_bytes=options.spool_bytes or SPOOL_BYTES,
    )
    if options.threshold is not None:
        runtime.score_threshold = options.threshold
    return runtime


def _classify(runtime, options, done: _Done) -> None:
    """Answer about the images, a batch at a time."""
    done.runtime, metrics = runtime, runtime.metrics
    with ExitStack() as stack:
        stack.enter_context(runtime)
        if options.metrics_port is not None:
            address = options.metrics_host, options.metrics_port
            port = stack.enter_context(served(metrics.registry, *address))
            told = f"metrics: http://{options.metrics_host}:{port}/metrics"
            print(told, file=done.stream, flush=True)
        if options.cloud:
            # A service that would answer nothing is better known before images are read.
            runtime.check(options.batch)
            runtime.require_welcome()
        images, labels, ids = read_samples(
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
        shown = stack.enter_context(Progress(len(images), metrics, lambda: runtime.breaker))
        for start in range(0, len(images), options.batch):
            part = slice(start, start + options.batch)
            answer = runtime.predict(images[part], None if labels is None else labels[part])
            done.outputs.append(answer.logits)
            if done.output is not None:
                names = runtime.manifest["class_names"]
                done.tell(rows_of(answer, ids[part], runtime.task, names))
            shown.add(len(answer.logits))
            runtime.require_welcome()
        runtime.flush()


@of_option("a number")
def _threshold(text: str) -> float:
    expect(not np.isnan(float(text)), "threshold", "a number", text)
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.serve.edge",
        description="Classify images on this machine, asking a cloud service about the hard ones.",
    )
    add = parser.add_argument
    add("run", help="a run of a search, or an artefact")
    add_runtime_options(parser)
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
    add("--threshold", type=_threshold, metavar="SCORE", help="offload scores from here on")
    add("--output", metavar="FILE", help="write predictions to a file; - for standard output")
    add("--format", choices=get_args(Format), help="of the predictions (csv)")
    add("--max-samples-per-minute", type=count, help="send no more; the others are answered here")
    add("--max-bytes-per-minute", type=count, help="send no more; the others are answered here")
    add("--limit", type=count, help="classify the first so many images only")
    add("--batch", type=count, default=1, help="images a call (%(default)s)")
    add("--share-images", action="store_true", help="show them on the page")
    add(
        "--spool",
        metavar="FOLDER",
        help="answer all here at once, and send hard images in the background, from this folder",
    )
    add("--spool-bytes", type=count, help=f"of that folder ({SPOOL_BYTES})")
    add("--metrics-port", type=int, help="serve counters to Prometheus at this port; 0: a free one")
    add("--metrics-host", default="127.0.0.1", help="and at this address (%(default)s)")
    add_forms(parser)
    return parser


if __name__ == "__main__":
    main()
