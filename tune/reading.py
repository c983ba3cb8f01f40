"""How a command is told to read a data set: the options that all commands share."""

import argparse
from collections.abc import Mapping
from typing import Any, get_args

from keras_ddnn.data.readers import BACKGROUND_HELP, SCALE_HELP
from keras_ddnn.data.rows.sizes import FIT_HELP, SIZE_HELP, Fit
from keras_ddnn.files.checks import expect

# Option -> what it is where it is not given.
OPTIONS = {
    "background": None,
    "scale": None,
    "image_size": None,
    "fit": "resize",
    "skip_unreadable": False,
}


def add_reading(group: argparse._ArgumentGroup) -> None:
    """Add the options of image files and arrays to a command."""
    add = group.add_argument
    add("--data-dir", help="folder of TensorFlow Datasets")
    add("--background", metavar="COLOUR", help=BACKGROUND_HELP)
    add("--scale", type=float, metavar="WHITE", help=SCALE_HELP)
    add("--image-size", metavar="SIZE", help=f"{SIZE_HELP}; chosen and said if not given")
    add("--fit", choices=get_args(Fit), default=OPTIONS["fit"], help=FIT_HELP)
    add("--skip-unreadable", action="store_true", help="leave out images that cannot be read")


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given, as keywords of `keras_ddnn.load`."""
    return {name: getattr(options, name) for name in OPTIONS}


def require_of_series(reading: Mapping[str, Any]) -> None:
    """Raise ValueError if any of the keywords of `reading_of`, or a `data_dir`, was given."""
    given = [name for name, value in reading.items() if value != OPTIONS.get(name)]
    told = f"{', '.join(given)}: leave it out for series"
    expect(not given, "options of images", "a search of classes", told)
