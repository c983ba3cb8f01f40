"""Datasets that have a name: those that are generated, and those of TensorFlow Datasets."""

from importlib import import_module
from pathlib import Path

from keras_ddnn.data.formats.found import Found
from keras_ddnn.data.formats.idx import padded
from keras_ddnn.files.extras import extras_named
from keras_ddnn.files.quiet import import_tensorflow

SIZES = {  # of the modules that generate a dataset
    "cluttered_digits": {"train": 20_000, "val": 2_000, "test": 2_000},
    "cluttered_views": {"train": 12_000, "val": 2_000, "test": 2_000},
}
DIGITS = tuple("0123456789")


class DatasetMissing(ValueError):
    """The dataset is known, but its files are not on this machine."""


def read_generated(name: str, data_dir: str | Path | None, seed: int) -> Found:
    """Generate a dataset of `SIZES`; nothing is read from `data_dir`."""
    generate = import_module(f"keras_ddnn.data.formats.{name}").generate
    arrays = generate(SIZES[name], seed)
    inputs, labels = ({what: pair[k] for what, pair in arrays.items()} for k in (0, 1))
    return Found(name, inputs, labels, DIGITS)


def read_tfds(name: str, data_dir: str | Path | None, seed: int) -> Found:
    """Read a dataset that TensorFlow Datasets has prepared.

    Raises:
        DatasetMissing: It is not in the folder.
    """
    with extras_named():
        import_tensorflow()  # which reads the files
        import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    inputs, labels = {}, {}
    for what in ("train", "test"):
        try:
            # File order is part of the result: a seed must mean the same validation images.
            pairs = builder.as_dataset(
                split=what, batch_size=-1, as_supervised=True, shuffle_files=False
            )
        except AssertionError as error:  # all that tfds raises when nothing is prepared
            raise DatasetMissing(
                f"{name} is not in {builder.data_dir}: prepare it with `tfds build {name}`, or "
                "name the folder that holds it by TFDS_DATA_DIR or --data-dir; "
                "cluttered_digits needs no download"
            ) from error
        images, labels[what] = tfds.as_numpy(pairs)
        inputs[what] = padded(images) if images.shape[1:] == (28, 28, 1) else images
    return Found(name, inputs, labels, tuple(builder.info.features["label"].names))
