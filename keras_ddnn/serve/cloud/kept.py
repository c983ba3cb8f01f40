"""Images that devices send for later, kept in a folder by class, each once by its pixels.

`load(FOLDER / "images")` reads it. A class is what the network has answered: who labels the images
moves those that are wrong into the folder of another class.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from keras_ddnn.data.splits import InputType
from keras_ddnn.files.atomic import remove_leftovers, replacing_file
from keras_ddnn.files.checks import expect, require_count
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.limits import KEEP_ID
from keras_ddnn.tasks.known import task_of

MAX_BYTES = 1 << 30  # of all images
HASH = 32  # hex digits of the hash of an image


class KeptSamples:
    """A folder of images; threads of one process may share it.

    A device repeats a request whose answer it has not got. So for every session of a device and
    every model, the number of the latest request is kept in a file of its own: what is not above it
    has arrived before, even if its images have been moved elsewhere since. An image that is there,
    in whatever class, is not kept again: a device may meet the same images in another session.

    Args:
        folder: Made where it is missing; gets `images/CLASS/ID.png`, whose name ends with a hash of
            the pixels, and `arrived/`.
        max_bytes: Of the images in the folder. Where there are more, devices are asked to come
            again, and keep what they have.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, folder: str | Path, max_bytes: int = MAX_BYTES):
        require_count(max_bytes=max_bytes)
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._images, self._arrived = self.folder / "images", self.folder / "arrived"
        for made in (self._images, self._arrived):
            made.mkdir(parents=True, exist_ok=True)
        for left in (self._arrived, *self._images.iterdir()):
            remove_leftovers(left)
        self._bytes = self._counted()
        self._seen = {_hash_in(file.stem) for file in self._images.glob("*/*.png")}
        self._adding = Lock()

    def add(self, keep: str, model: str, images: np.ndarray, names: Sequence[str]) -> int:
        """Keep the images of a request unless it has arrived before; they are on disk then.

        Args:
            keep: The id of the request, `KEEP_ID`.
            model: Id of the artefact that it was for.
            images: uint8 (n, height, width, 1 or 3).
            names: Classes, one an image.

        Returns:
            How many are new.

        Raises:
            Unavailable: If the folder is full, or cannot be written.
        """
        session, number = KEEP_ID.fullmatch(keep).groups()
        latest = self._arrived / f"{session}-{model}"
        with self._adding:
            try:
                if latest.exists() and int(number) <= int(latest.read_text()):
                    return 0
                self._require_room()
                stem = f"{session}-{int(number):012d}"
                new = sum(
                    self._write(f"{stem}-{row:03d}", image, name)
                    for row, (image, name) in enumerate(zip(images, names, strict=True))
                )
                with replacing_file(latest) as file:  # last, so that a kill loses nothing
                    file.write(str(int(number)).encode())
            except (OSError, ValueError) as error:  # ValueError of a number that is damaged
                reason = getattr(error, "strerror", None) or error  # without a path of this machine
                raise Unavailable(f"samples cannot be kept: {reason}") from error
            return new

    def _write(self, stem: str, image: np.ndarray, name: str) -> bool:
        pixels = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:HASH]
        # What was seen may have been taken away since.
        if pixels in self._seen and next(self._images.glob(f"*/*-{pixels}.png"), None):
            return False
        file = f"{stem}-{pixels}.png"
        shown = image[..., 0] if image.shape[-1] == 1 else image
        with replacing_file(self._images / name / file) as written:
            Image.fromarray(shown).save(written, "PNG")
        self._seen.add(pixels)
        self._bytes += (self._images / name / file).stat().st_size
        return True

    def _require_room(self) -> None:
        if self._bytes >= self.max_bytes:
            self._bytes = self._counted()  # someone may have taken images away
        if self._bytes >= self.max_bytes:
            raise Unavailable(
                f"{self._bytes} bytes of samples are kept, of at most {self.max_bytes}: move them "
                "away, or raise --keep-bytes"
            )

    def _counted(self) -> int:
        return sum(file.stat().st_size for file in self._images.glob("*/*.png"))


def _hash_in(stem: str) -> str:
    """Return the hash at the end of the name of an image."""
    return stem.rpartition("-")[2]


def require_keepable(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError, in one line, unless samples of an artefact can be kept by class."""
    reads = InputType(tuple(manifest["input_shape"]), manifest["input_dtype"])
    are_files = reads.is_image and reads.shape[-1] in (1, 3)
    expect(are_files, "keep", "an artefact that reads an image of 1 or 3 channels", reads)
    expect(task_of(manifest).target_reader is None, "keep", "classes", "an artefact of numbers")
    wrong = [
        n for n in manifest["class_names"] if "/" in n or "\0" in n or n.startswith(".") or not n
    ]
    expect(not wrong, "keep", "names of classes that can be those of folders", wrong[:1])
