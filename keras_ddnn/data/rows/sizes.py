"""The size that images get: which one, and how each is brought to it."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, assert_never, get_args

import numpy as np

from keras_ddnn.files.checks import expect, is_integer, require_choice

Fit = Literal["resize", "crop_to_aspect_ratio", "pad_to_aspect_ratio"]
Size = tuple[int, int]  # height and width
SMALLEST_SIDE = 16  # three poolings leave the cloud network 2×2 of it
LARGEST_SIDE = 224  # that is chosen; a larger one is asked for
SIZE_HELP = "height and width of all images, as 96 or 96x128; see --fit"
FIT_HELP = "how images of another size are brought to it; padding has the background"


def size_of(given: int | Sequence[int] | str | None) -> Size | None:
    """Return height and width of "96", "96x128", 96 or (96, 128); None of None.

    Raises:
        ValueError: It is none of these.
    """
    if given is None:
        return None
    sides: Any = given  # whatever a user gives
    if isinstance(given, str):
        sides = [int(side) for side in re.findall("[0-9]+", given)]
        if not re.fullmatch("[0-9]+([x×,][0-9]+)?", given.replace(" ", "")):
            sides = ()
    sides = (sides,) if np.ndim(sides) == 0 else tuple(sides)
    sides = sides * 2 if len(sides) == 1 else sides
    whole = all(map(is_integer, sides))
    wanted = f"one side, or height and width, of at least {SMALLEST_SIDE}"
    large = len(sides) == 2 and whole and min(sides) >= SMALLEST_SIDE
    expect(large, "image_size", wanted, repr(given))
    return int(sides[0]), int(sides[1])


def require_fit(fit: str) -> None:
    """Raise ValueError unless a way of fitting is known."""
    require_choice("fit", fit, get_args(Fit))


def common_size(sizes: Counter) -> tuple[Size, str | None]:
    """Return the size for images of these sizes, and in words how it was chosen.

    Where all are of one size that is it, and nothing is said. Else it is a square, whose side is
    the median of the shorter sides, at most `LARGEST_SIDE`.

    Args:
        sizes: (height, width) → number of images, at least one.
    """
    if len(sizes) == 1:
        return next(iter(sizes)), None
    shorter = np.repeat([min(size) for size in sizes], list(sizes.values()))
    median = int(np.median(shorter))
    side = min(median, LARGEST_SIDE)
    limit = f", at most {LARGEST_SIDE}" if median > side else ""
    return (side, side), (
        f"images have {len(sizes):,} sizes; {side}×{side} pixels is taken, the median of their "
        f"shorter sides{limit}: image_size and fit (--image-size, --fit) choose otherwise"
    )


def fitted(pixels: np.ndarray, size: Size, fit: Fit, background: Sequence[int]) -> np.ndarray:
    """Bring an image to a size, by the ways of `keras.utils.image_dataset_from_directory`.

    It is shrunk with antialiasing, as PIL does, where Keras samples.

    An image of that size is kept to the digit. Others are resampled bilinearly, each new pixel from
    all that it covers (`PIL.Image.BILINEAR`).

    Args:
        pixels: uint8 of shape (h, w, 1 or 3).
        size: Height and width.
        fit: "resize" changes the aspect ratio; "crop_to_aspect_ratio" first cuts the middle out;
            "pad_to_aspect_ratio" first adds borders.
        background: RGB of the borders; grey images get its luma.

    Returns:
        uint8 of shape (*size, 1 or 3).
    """
    from PIL import Image

    (height, width), channels = size, pixels.shape[2]
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if fit == "resize":
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif fit == "crop_to_aspect_ratio":
        w, h = _largest_inside(image.width, image.height, width, height)
        left, top = (image.width - w) / 2, (image.height - h) / 2
        box = (left, top, left + w, top + h)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    elif fit == "pad_to_aspect_ratio":
        w, h = _largest_inside(width, height, image.width, image.height)
        w, h = max(1, round(w)), max(1, round(h))
        small = image.resize((w, h), Image.Resampling.BILINEAR)
        below = Image.new("RGB", (width, height), tuple(background)).convert(image.mode)
        below.paste(small, ((width - w) // 2, (height - h) // 2))
        image = below
    else:
        assert_never(fit)
    return np.array(image).reshape(height, width, channels)


def _largest_inside(width: int, height: int, *ratio: int) -> tuple[float, float]:
    """Return the sides of the largest rectangle of a ratio, width to height, inside another."""
    scale = min(width / ratio[0], height / ratio[1])
    return ratio[0] * scale, ratio[1] * scale
