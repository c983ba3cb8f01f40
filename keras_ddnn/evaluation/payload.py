"""Bytes of an offloaded sample, in every form it could be sent in, and of its input instead."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_ddnn.data.formats.folders import images_below, say_passed_over
from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.data.readers import read_image
from keras_ddnn.data.rows.view import spread_rows
from keras_ddnn.data.tier_outputs import TierOutputs

SAMPLES = 256  # measured of a bank
PNG_CHANNELS = (1, 2, 3, 4)
FORMS = ("sent", "codes", "codes_zlib", "image", "image_png")  # in the tables of a report


@dataclass(frozen=True)
class Payload:
    """Mean bytes of one sample, each compressed on its own, as a device would send it.

    Attributes:
        features: Of what the cloud network reads: features as float16, or the input itself.
        codes: Of the features as codes; see `Quantisation`. NaN where no features are sent.
        codes_zlib: Of these after zlib.
        image: Of the input instead, an image or another, uncompressed.
        image_png: Of the image as PNG, or of the frames of all cameras, each a PNG; NaN where it
            has more channels than a PNG can, or the input is no image.
        lossless: Whether the codes say all of the features, as behind a bottleneck.
        kind: "image", or "input" for any other.
    """

    features: float
    codes: float
    codes_zlib: float
    image: float
    image_png: float
    lossless: bool
    kind: str = "image"

    @classmethod
    def of(cls, edge: TierOutputs, quantisation: Quantisation | None = None) -> "Payload":
        """Measure up to `SAMPLES` of n samples, n at least 1, spread evenly over them.

        Args:
            edge: The samples.
            quantisation: The codes the DDNN was trained with, see `config.feature_quantisation`.
                Without, codes are fitted to the features.
        """
        rows = spread_rows(len(edge), SAMPLES)
        features, images = (
            np.asarray(edge.require(name, "Payload")[rows]) for name in ("features", "inputs")
        )
        length = zipped = math.nan
        if features.dtype == np.float16:
            codes = (quantisation or Quantisation.of(features)).codes(features)
            length = codes[0].nbytes
            zipped = _mean(len(zlib.compress(sample.tobytes())) for sample in codes)
        image = images.ndim in (4, 5) and images.dtype == np.uint8
        png = image and images.shape[-1] in PNG_CHANNELS
        return cls(
            features=features[0].nbytes,
            codes=length,
            codes_zlib=zipped,
            image=images[0].nbytes,
            image_png=_mean(map(png_bytes, images)) if png else math.nan,
            lossless=quantisation is not None,
            kind="image" if image else "input",
        )

    @property
    def sent(self) -> float:
        """Bytes by which the cloud network answers as in its bank: the codes, if they say all."""
        return self.codes if self.lossless else self.features

    def as_json(self) -> dict:
        """Return all of it as plain JSON types, with what is `sent` and the `verdict`."""
        content = asdict(self) | {"sent": self.sent, "verdict": self.verdict()}
        return {name: None if value != value else value for name, value in content.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Payload":
        """Return what `as_json` has written."""
        known = ((field.name, content[field.name]) for field in fields(cls))
        numbers: dict[str, Any] = {name: math.nan if x is None else x for name, x in known}
        return cls(**numbers)

    def verdict(self) -> str:
        """Say in a sentence whether sending features is better than sending the input."""
        said = f"an offloaded sample sends {self.sent:,} bytes, "
        if self.sent > self.image:
            said += f"{self.sent / self.image:.1f} times the raw {self.kind}: "
            return said + "splitting saves computation, not bandwidth"
        said += f"{self.sent / self.image:.0%} of the raw {self.kind}"
        if math.isnan(self.image_png):
            return said
        if self.sent > self.image_png:
            return said + f", but {self.sent / self.image_png:.1f} times its PNG"
        return said + f" and {self.sent / self.image_png:.0%} of its PNG"


def _mean(lengths) -> float:
    return float(np.mean([*lengths]))


def png_bytes(image: np.ndarray) -> int:
    """Return the bytes of a uint8 image (h, w, c) as PNG, c one of `PNG_CHANNELS`.

    Of frames (D, h, w, c), those of all together.
    """
    if image.ndim == 4:
        return sum(map(png_bytes, image))
    file = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    return file.tell()


def mean_png_bytes(folder: str | Path, shape: Sequence[int]) -> tuple[float, int]:
    """Return the mean bytes of the images of a folder as PNG, and of how many they are.

    Args:
        folder: Folder of image files, in subfolders or not; up to `SAMPLES` are read, spread
            evenly.
        shape: (height, width, channels) to which each is brought; channels 1 or 3.

    Raises:
        OSError: If the folder cannot be read.
        ValueError: If the folder holds no image, one of them cannot be read, or the channels are
            others.
    """
    height, width, channels = shape
    passed: Counter = Counter()
    files = [*images_below(Path(folder), passed)]
    if not files:
        raise ValueError(f"expected images in {folder}; received none")
    say_passed_over(Path(folder), passed)
    lengths = []
    for place in spread_rows(len(files), SAMPLES):
        pixels = read_image(files[place], channels).pixels
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        lengths.append(png_bytes(np.asarray(image.resize((width, height))).reshape(shape)))
    return _mean(lengths), len(lengths)
