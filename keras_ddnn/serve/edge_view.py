"""The images that a device is given, and what a person sees of its work."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from keras_ddnn.classes import Classes
from keras_ddnn.datasets import IMAGE_SUFFIXES, load, read_rgb


def read_images(
    folder: str | None, dataset: str | None, manifest: Mapping, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read images from a folder, or the test data of a dataset.

    Args:
        folder: Of images of one size; in subfolders named after their classes where those are
            known. None to read a dataset.
        dataset: As of `load`.
        manifest: Of the artefact.
        limit: How many to take, from the first; None for all.

    Returns:
        uint8 of shape (n, h, w, c), and the user's labels (n,), None where they are not known.

    Raises:
        ValueError: If there are no images, they differ in size, or a subfolder is no class.
    """
    if folder is None:
        test = load(dataset).test
        return test.images[:limit], test.user_labels[:limit]
    root = Path(folder)
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"expected images in {root}; received none")
    files = files[:limit]
    shape = read_rgb(files[0]).shape
    images = np.stack([read_rgb(file, shape) for file in files])
    if all(file.parent == root for file in files):
        return images, None
    class_names = manifest["class_names"]
    for file in files:
        if file.parent.name not in class_names:
            known = ", ".join(class_names)
            raise ValueError(f"{file}: expected a folder named after a class, {known}")
    numbers = np.array([class_names.index(file.parent.name) for file in files])
    return images, Classes.of_manifest(manifest).decode(numbers)


def live_view(total: int, look: Callable[[], tuple[dict, str]]) -> Live:
    """Return a context that shows the counters of a device while it works.

    Args:
        total: Number of images.
        look: Returns the numbers of `EdgeMetrics` and the state of the circuit breaker.
    """

    def show():
        numbers, breaker = look()
        table = _table(numbers, f"{_answered(numbers):,} of {total:,} images")
        table.add_row("circuit breaker", breaker)
        return table

    return Live(get_renderable=show, refresh_per_second=4, transient=True)


def show_report(numbers: dict, classes: np.ndarray, labels: np.ndarray | None) -> None:
    """Print what a device did, and how often it was right where labels (n,) are known."""
    table = _table(numbers, f"{_answered(numbers):,} images")
    if labels is not None:
        table.add_row("accuracy", f"{np.mean(classes == labels):.2%}")
    Console().print(table)


def _answered(numbers) -> int:
    return numbers["local"] + numbers["cloud"] + numbers["fallback"]


def _table(numbers, title) -> Table:
    table = Table("", "", title=title, show_header=False)
    n = max(_answered(numbers), 1)
    for name, meaning in (
        ("local", "answered here"),
        ("cloud", "answered by the cloud"),
        ("fallback", "answered here, for want of the cloud"),
    ):
        table.add_row(meaning, f"{numbers[name]:,} ({numbers[name] / n:.1%})")
    sent = numbers["sent_bytes"]
    table.add_row("bytes sent", f"{sent:,} ({sent / n:,.0f} an image)")
    for name in ("p50", "p95", "p99"):
        if name in numbers:
            table.add_row(f"{name} of a call", f"{1000 * numbers[name]:.2f} ms")
    return table
