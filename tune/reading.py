"""How a command is told to read a data set: the options that all commands share."""

import argparse
from typing import Any, get_args

from keras_ddnn.data.readers import BACKGROUND_HELP, SCALE_HELP
from keras_ddnn.data.rows.sizes import FIT_HELP, SIZE_HELP, Fit

OPTIONS = ("background", "scale", "image_size", "fit", "skip_unreadable")


def add_reading(group: argparse._ArgumentGroup) -> None:
    """Add the options of image files and arrays to a command."""
    add = group.add_argument
    add("--data-dir", help="folder of TensorFlow Datasets")
    add("--background", metavar="COLOUR", help=BACKGROUND_HELP)
    add("--scale", type=float, metavar="WHITE", help=SCALE_HELP)
    add("--image-size", metavar="SIZE", help=f"{SIZE_HELP}; chosen and said if not given")
    add("--fit", choices=get_args(Fit), default="resize", help=FIT_HELP)
    add("--skip-unreadable", action="store_true", help="leave out images that cannot be read")


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given, as keywords of `keras_ddnn.load`."""
    return {name: getattr(options, name) for name in OPTIONS}
