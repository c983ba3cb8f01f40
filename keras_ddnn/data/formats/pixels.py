"""Arrays of images as people keep them, made uint8 with their channels last; said in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ddnn.data.readers import colour_of
from keras_ddnn.files.checks import expect, require_positive
from keras_ddnn.files.notices import notice

BYTE, WORD = 255, 65535  # white in 8 and in 16 bits
ROWS = 1000  # converted at once: floats take eight times the room of bytes
TRANSPARENT = 4  # channels of RGBA
SCALE_ADVICE = "name the value of white with --scale (scale= of keras_ddnn.load)"


def as_pixels(
    arrays: Mapping[str, Any],
    channels: int,
    background: str | Sequence[int] | None = None,
    scale: float | None = None,
) -> dict[str, np.ndarray]:
    """Convert the arrays of a dataset alike, as its training images ask for.

    Args:
        arrays: Split → images, "train" among them: (n, h, w), or (n, h, w, channels), where four
            channels are RGBA.
        channels: Of grey images (n, h, w): 3, of equal values, or 1.
        background: Seen through transparent pixels, see `colour_of`; None for white.
        scale: The value that means white; None recognises 255 of floats and 65,535 of uint16 where
            the brightest pixel is above half of it.

    Returns:
        Split → uint8 (n, h, w, c) where something was to convert; other arrays are the same ones.

    Raises:
        ValueError: White is not known, values are not in 0..scale, splits differ in type, or there
            is a background and no transparency.
    """
    if arrays["train"].ndim not in (3, 4):
        return dict(arrays)  # no images, as `as_split` says
    white = _white(arrays["train"], scale)
    if white is not None:
        arrays = {
            what: _in_bytes(array, white, what, arrays["train"].dtype)
            for what, array in arrays.items()
        }
    if arrays["train"].ndim == 3:
        made = "repeated to three channels" if channels == 3 else "read as one channel"
        notice(f"grey images (n, height, width) are {made}")
    colour = colour_of(background)
    if _has_alpha(arrays["train"]):
        notice(f"images of 4 channels are read as RGBA, over the background {colour}")
    elif background is not None:
        received = f"shape {arrays['train'].shape}"
        expect(False, "background", "transparent images (n, height, width, 4)", received)
    return {what: _channels(array, channels, colour) for what, array in arrays.items()}


def _has_alpha(array: np.ndarray) -> bool:
    return array.ndim == 4 and array.shape[3] == TRANSPARENT and array.dtype == np.uint8


def _channels(array: np.ndarray, channels: int, colour: Sequence[int]) -> np.ndarray:
    if array.ndim == 3:
        return np.repeat(array[..., None], channels, axis=3)
    if not _has_alpha(array):
        return array
    if (array[..., 3] == BYTE).all():
        return np.ascontiguousarray(array[..., :3])
    pixels = np.empty((*array.shape[:3], 3), np.uint8)
    for start in range(0, len(array), ROWS):
        rows = array[start : start + ROWS].astype(np.float32)
        share = rows[..., 3:] / BYTE
        below = np.array(colour, np.float32)
        pixels[start : start + ROWS] = np.rint(rows[..., :3] * share + below * (1 - share))
    return pixels


def _white(array: np.ndarray, scale: float | None) -> float | None:
    """Return the value of white in training images; None where `as_split` knows or refuses it."""
    if scale is not None:
        require_positive(scale=scale)
        return scale
    kind = array.dtype.kind
    if kind not in "iuf" or array.dtype == np.uint8 or not array.size:
        return None
    low, high = array.min(), array.max()
    if not low >= 0 or not np.isfinite(high) or high <= (1 if kind == "f" else BYTE):
        return None
    usual = BYTE if kind == "f" else WORD
    known = kind == "f" or array.dtype == np.uint16
    received = f"{array.dtype} of {low:g} to {high:g}; {SCALE_ADVICE}"
    expect(
        known and usual / 2 < high <= usual,
        "train images",
        "a value of white that is known",
        received,
    )
    notice(f"images of {array.dtype}, {low:g} to {high:g}, are read as 0 to {usual:,} for white")
    return usual


def _in_bytes(array: np.ndarray, white: float, what: str, like: np.dtype) -> np.ndarray:
    subject = f"{what} images"
    expect(array.dtype == like and like.kind in "iuf", subject, "numbers of one type", array.dtype)
    if not array.size:
        return array.astype(np.uint8)
    low, high = array.min(), array.max()
    received = f"{low:g} to {high:g}; {SCALE_ADVICE}"
    expect(low >= 0 and high <= white, subject, f"values of 0 to {white:g}", received)
    pixels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), ROWS):
        pixels[start : start + ROWS] = np.rint(array[start : start + ROWS] / white * BYTE)
    return pixels
