"""Image files as pixels: one pure function for whatever a file holds."""

import os
import re
import stat
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO, NamedTuple

import numpy as np

from keras_ddnn.files.checks import require_choice, require_positive

IMAGE_SUFFIXES = {
    *(".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
}
WHITE = (255, 255, 255)
# Two commands read images, and have the same options for it.
BACKGROUND_HELP = "colour behind transparent pixels, #rrggbb or r,g,b; white if not given"
SCALE_HELP = "value of white in grey images of more than 8 bits; that of their depth if not given"
SEVERAL_FRAMES = "have several frames; the first is read"
DEEP = "have more than 8 bits a value; 8 are kept"

_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N")
_UNKNOWN_DEPTH = ("I", "F")
_PHOTOMETRIC, _BITS, _WHITE_IS_ZERO = 262, 258, 0  # tags of a TIFF
_ORIENTATION = 274  # of EXIF; from 5 on height and width are swapped
_SHALLOW_GREY = {"L;2": 85, "L;4": 17}  # what PIL multiplies pixels by, but not their tRNS
_FILTERS = threading.Lock()  # of warnings: they belong to the process


class Picture(NamedTuple):
    """The pixels of a file, uint8 (h, w, channels), and remarks on what of it they do not hold."""

    pixels: np.ndarray
    remarks: tuple[str, ...]


class Unreadable(ValueError):
    """The file is damaged, or holds no image that PIL reads."""


class _Refused(ValueError):
    """An image that PIL reads, but whose pixels have no clear meaning."""


def read_image(
    file, channels: int = 3, *, background: tuple = WHITE, scale: float | None = None
) -> Picture:
    """Read an image as a person sees it: upright, with its colours, in 8 bits a value.

    Args:
        file: A path or an open binary file.
        channels: 3 for RGB, 1 for grey.
        background: RGB in 0..255, seen through transparent pixels.
        scale: The value that means white in grey images of more than 8 bits. None takes that of
            their depth; 32-bit integers and floats have none.

    Returns:
        Picture. Its remarks are among `SEVERAL_FRAMES` and `DEEP`.

    Raises:
        Unreadable: The file is damaged, or PIL knows no such image.
        ValueError: White is not known, values are not in 0..scale, the image is larger than PIL
            trusts, or an argument is out of range.
    """
    require_choice("number of channels", channels, (1, 3))
    if scale is not None:
        require_positive(scale=scale)
    try:
        return _read(file, channels, background, scale)
    except _Refused as error:
        raise ValueError(f"{file}: {error}") from None
    except Exception as error:  # PIL raises whatever its parsers of damaged files stumble on
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise Unreadable(
            f"{file}: expected an image, received a file PIL cannot read: {reason}"
        ) from error


def upright_size(file) -> tuple[int, int]:
    """Return height and width of an image as a person sees it, by the header of its file.

    It may be wrong where a PNG names its orientation behind its pixels.

    Raises:
        ValueError: The header cannot be read.
    """
    try:
        with _as_file(file) as opened, _open(opened) as image:
            width, height = image.size
            # PIL reads all of a PNG to learn that it has none; TIFF is turned already.
            unknown = image.format == "PNG" and not {"exif", "Raw profile type exif"} & {
                *image.info
            }
            as_stored = (
                unknown or image.format == "TIFF" or image.getexif().get(_ORIENTATION, 1) < 5
            )
            return (height, width) if as_stored else (width, height)
    except Exception as error:
        raise Unreadable(f"{file}: {error}") from error


def colour_of(given: str | Sequence[int] | None) -> tuple[int, int, int]:
    """Return RGB in 0..255 of "#rrggbb", "r,g,b" or three numbers; white of None.

    Raises:
        ValueError: It is none of these.
    """
    if given is None:
        return WHITE
    colour = tuple(_numbers(given) if isinstance(given, str) else given)
    if len(colour) != 3 or not all(n in range(256) for n in colour):
        raise ValueError(f"background must be #rrggbb or three numbers of 0..255; got {given!r}")
    red, green, blue = map(int, colour)
    return red, green, blue


def _numbers(text: str) -> list[int]:
    digits = re.fullmatch("#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", text.strip().lower())
    if digits:
        return [int(pair, 16) for pair in digits.groups()]
    parts = re.split(r"[\s,]+", text.strip())
    return [int(part) for part in parts if part.isascii() and part.isdigit()]


def _read(file, channels, background, scale):
    from PIL import Image, ImageOps

    # Of a path PIL maps some files into memory, and turns only their size, not their pixels.
    with _as_file(file) as opened, _open(opened) as image:
        raw, tags = _raw_mode(image), getattr(image, "tag_v2", {})
        wide_colour = ";16" in raw and image.mode not in _DEEP_GREY
        remarks: tuple[str, ...] = (SEVERAL_FRAMES,) if getattr(image, "is_animated", False) else ()
        image = ImageOps.exif_transpose(image)
    if wide_colour and scale is not None:
        raise _Refused("expected grey values for --scale, received colours of 16 bits")
    if image.mode in _UNKNOWN_DEPTH and scale is None:
        raise _Refused(
            f"expected a known value of white, received mode {image.mode}, which has none: name "
            "the value with --scale (scale= of keras_ddnn.load)"
        )
    see_through = image.info.get("transparency")
    if wide_colour or image.mode in (*_DEEP_GREY, *_UNKNOWN_DEPTH):
        remarks += (DEEP,)
    if image.mode in (*_DEEP_GREY, *_UNKNOWN_DEPTH):
        white = scale or 2.0 ** tags.get(_BITS, (16,))[0] - 1
        inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        image = _in_eight_bits(np.asarray(image), white, inverted, see_through)
    elif isinstance(see_through, tuple) and wide_colour:
        image.info["transparency"] = tuple(value >> 8 for value in see_through)
    elif isinstance(see_through, int) and raw in _SHALLOW_GREY:
        image.info["transparency"] = see_through * _SHALLOW_GREY[raw]
    if image.has_transparency_data:
        below = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    if image.mode != "L":
        image = image.convert("RGB")  # PIL knows no way from LAB to L
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return Picture(pixels.reshape(*pixels.shape[:2], channels), remarks)


def _as_file(file) -> AbstractContextManager[IO[bytes]]:
    if not isinstance(file, str | os.PathLike):
        return nullcontext(file)
    if not stat.S_ISREG(os.stat(file).st_mode):  # to open a pipe would wait for ever
        raise OSError("it is no regular file")
    return open(file, "rb")


def _open(file):
    from PIL import Image, UnidentifiedImageError

    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(file)
        except UnidentifiedImageError:  # whose message shows the file as Python does
            raise UnidentifiedImageError("it is in no format that PIL knows") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _Refused(
                f"expected an image of at most {Image.MAX_IMAGE_PIXELS:,} pixels, as "
                f"PIL.Image.MAX_IMAGE_PIXELS allows, received a larger one: {error}"
            ) from error


def _raw_mode(image) -> str:
    """Return how the file stores a pixel, for example "RGB;16B"; "" where PIL does not say."""
    args = image.tile[0][3] if getattr(image, "tile", None) else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _in_eight_bits(values, white, inverted, see_through):
    """Return values (h, w) of 0..white as a grey image, with alpha where one value means none."""
    from PIL import Image

    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # NaN is neither
        raise _Refused(
            f"expected values of 0 to {white:g}, received {low:g} to {high:g}: --scale names the "
            "value of white"
        )
    levels = np.rint(values / white * 255).astype(np.uint8)
    grey = Image.fromarray(255 - levels if inverted else levels)
    if isinstance(see_through, int):
        alpha = Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8))
        grey = Image.merge("LA", (grey, alpha))
    return grey
