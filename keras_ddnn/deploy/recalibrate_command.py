"""Choose an artefact's thresholds anew on later samples: `keras-ddnn recalibrate ARTIFACT`.

keras-ddnn recalibrate runs/quickstart --dataset recent/ --max-drop 0.01
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.classes import Classes, labels_of
from keras_ddnn.data.datasets import DATASET_HELP, DATASETS, as_split, load_part
from keras_ddnn.data.formats.archives import read_npz
from keras_ddnn.data.formats.found import WORDS
from keras_ddnn.data.splits import InputType, Split
from keras_ddnn.files.checks import expect, require_fraction, require_probability
from keras_ddnn.files.extras import extras_of_a_command
from keras_ddnn.files.manifest import SIGNATURE, artifact_of, read_manifest
from keras_ddnn.files.notices import (
    CommandParser,
    add_forms,
    notice,
    option_type,
    positive,
    said_as,
    tell_error,
    tell_result,
)
from keras_ddnn.files.quiet import import_tensorflow

FEW = 100  # samples, of which temperatures are little more than chance
PARTS = ("val", "test", "train")  # the first that a data set has, unless one is named


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 2 after one line on standard error for bad input."""
    options = _parser().parse_args(arguments)
    try:
        with extras_of_a_command(), said_as(options):
            _run(options)
    except (OSError, ValueError) as error:
        tell_error(error)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    calibrate = _calibrate(options)
    manifest = read_manifest(artifact_of(options.run), options.verify_key)
    if options.sign is None and (artifact_of(options.run) / SIGNATURE).exists():
        notice("the artefact is signed: devices that ask for that need --sign here, too")
    inputs, labels = read_labelled(options.dataset, manifest, options.part)
    if len(labels) < FEW:
        notice(f"{len(labels)} samples are few: thresholds and temperatures may be far off")
    # Imported only now, so that --help and bad data answer at once.
    import_tensorflow()
    from keras_ddnn.deploy.recalibration import recalibrate

    found = recalibrate(
        options.run,
        inputs,
        labels,
        calibrate=calibrate,
        dataset=Path(options.dataset).stem,
        verify_key=options.verify_key,
        sign=options.sign,
    )
    print(f"on {found.samples:,} samples of {options.dataset}:")
    for name, before, after in found.rows():
        print(f"{name + ':':18}before: {before}\n{'':18}after:  {after}")
    said = f"written: {found.path}; devices that run the artefact take it up at their next call"
    told = {name: {"before": before, "after": after} for name, before, after in found.rows()}
    tell_result(said, {"file": str(found.path), "samples": found.samples, **told})


def _calibrate(options: argparse.Namespace) -> Any:
    """Return what chooses the threshold; None for the promise in force."""
    from keras_ddnn.rules.calibration import (
        for_accuracy_drop,
        for_cost_increase,
        for_local_fraction,
    )

    if options.local_fraction is not None:
        expect(options.delta is None, "--delta", "a certificate", "--local-fraction alone")
        return partial(for_local_fraction, local_fraction=options.local_fraction)
    certainty = {} if options.delta is None else {"delta": options.delta}
    if options.max_drop is not None:
        return partial(for_accuracy_drop, max_drop=options.max_drop, **certainty)
    if options.max_increase is not None:
        return partial(for_cost_increase, max_increase=options.max_increase, **certainty)
    expect(not certainty, "--delta", "--max-drop or --max-increase beside it", "neither")
    return None


def read_labelled(
    dataset: str, manifest: Mapping[str, Any], part: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (n, ...) and labels (n,), as an artefact knows them, of new data.

    Classes are found by their names, so that a folder may lack some of them.

    Args:
        dataset: As of `load`; for an artefact that reads no images an `.npz` file.
        manifest: Of the artefact. Image files are read as in its training.
        part: "val", "test" or "train"; by default the first of these that the data have.

    Raises:
        ValueError: In one line, if there are no such data, or they are of other classes or shapes.
    """
    reads = InputType(tuple(manifest["input_shape"]), manifest["input_dtype"])
    parts = PARTS if part is None else (part,)
    if not reads.holds_images:
        expected = f"--dataset FILE.npz, for the artefact reads {reads.dtype} of {reads.shape}"
        expect(str(dataset).endswith(".npz"), "data", expected, dataset)
        found = read_npz(Path(dataset))
        chosen = next((part for part in parts if part in found.inputs), None)
        expect(chosen, f"{dataset}", f"{' or '.join(parts)} data", ", ".join(found.inputs))
        given, classes = (found.inputs[chosen], found.labels[chosen]), labels_of(manifest)
        split = as_split(*given, what=chosen, classes=classes, reads=reads)
        inputs, labels = split.images, split.user_labels
    else:
        size = {"channels": reads.shape[-1], "image_size": reads.shape[-3:-1]}
        reading = {"background": None, "scale": None, "fit": None}
        chosen, split, names = load_part(dataset, parts, manifest.get("reading"), **size, **reading)
        inputs, labels = split.images, _labels_by_name(split, names, manifest)
    what = "unsplit data" if (part, chosen) == (None, "train") else WORDS[chosen]
    notice(f"recalibrated on the {what} of {dataset}, {len(labels):,} samples")
    return np.asarray(inputs), labels


def _labels_by_name(split: Split, names: Sequence[str], manifest: Mapping[str, Any]) -> Any:
    """Return the labels of a split as the artefact knows them, (n,).

    Where the data have names of the artefact's classes, these decide. Else the labels themselves
    must be known, as where classes were given names after training.
    """
    known, classes = manifest["class_names"], labels_of(manifest)
    if set(names) <= set(known):
        places = np.array([known.index(name) for name in names])
        return classes.decode(places[split.labels])
    labels = split.user_labels
    # Of folders the labels are places among their own names, which say nothing of the artefact.
    unnamed = isinstance(classes, Classes) and tuple(names) == tuple(map(str, split.classes.values))
    others = ", ".join(sorted(set(names) - set(known))[:10])
    expect(unnamed, "classes", f"those of the artefact, {', '.join(known[:10])}", others)
    classes.encode(labels)  # which refuses others
    return labels


_probability = option_type(
    "a number above 0 and below 1", float, lambda x: require_probability(number=x)
)
_fraction = option_type("a number from 0 to 1", float, lambda x: require_fraction("number", x))


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="keras-ddnn recalibrate",
        description="Choose thresholds, certificate and temperatures of an artefact anew.",
    )
    add = parser.add_argument
    add("run", help="a run of a search, or an artefact")
    add(
        "--dataset",
        required=True,
        help=f"new labelled samples: one of {', '.join(DATASETS)}, or {DATASET_HELP}",
    )
    add("--part", choices=PARTS, help="of the data; default: the first of these that they have")
    promise = parser.add_mutually_exclusive_group()
    promise.add_argument("--local-fraction", type=_fraction, help="the share to keep local")
    promise.add_argument(
        "--max-drop", type=_probability, help="certify at most this drop of accuracy"
    )
    promise.add_argument(
        "--max-increase", type=positive, help="certify at most this rise of the cost"
    )
    add("--delta", type=_probability, help="the probability that a certificate is wrong (0.1)")
    add("--verify-key", type=Path, help="PEM file of whom the artefact must be signed by")
    add("--sign", type=Path, help="PEM file of the private key that signs the result")
    add_forms(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
