"""The worlds of `tune.modern`: the data as they are, and others in which learned rules should pay.

Beside them are the recipes that change one thing, to see what it is worth.

Source: Jitkrittum et al., "When Does Confidence-Based Cascade Deferral Suffice?", 2023.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ddnn.data.splits import Split, Splits
from tune.modern_outputs import PARTS

if TYPE_CHECKING:
    import keras

NOISE = 0.5  # chance that the label of a noisy class is drawn at random
BLOCK = 4  # pixels of a broken camera that have one colour


@dataclass(frozen=True)
class Case:
    """A world other than that of the data.

    Attributes:
        trained: (splits, seed) → the data whose training images a network is trained on.
        met: (splits, seed) → the world it then meets: what rules learn from, and the report.
        codes: Codes of each patch that it reads in place of the image, see `code_patches`.
        goes_on: Whether it begins with the weights of the usual network.
        recipe: Fields of the configuration that differ; None for no training.
        options: Fields of the architecture that differ.
        prepared: Changes a network that is made, before its training.
        teacher: Network whose probabilities it learns, as trained for the case `TEACHER`; or
            `ITSELF`, the usual network of the same name and seed.
        temperature: Of the teacher.
    """

    trained: Callable[[Splits, int], Splits]
    met: Callable[[Splits, int], Splits]
    codes: int | None = None
    goes_on: bool = False
    recipe: Mapping[str, Any] | None = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prepared: "Callable[[keras.Model], None] | None" = None
    teacher: str | None = None
    temperature: float = 3.0


def usual(splits: Splits, seed: int) -> Splits:
    """Return the data as they are."""
    return splits


def with_validation(splits: Splits, seed: int) -> Splits:
    """Train on the validation images, too."""
    both = splits.train, splits.val
    images = np.concatenate([np.asarray(split.images) for split in both])
    labels = np.concatenate([split.labels for split in both])
    return replace(splits, train=replace(splits.train, images=images, labels=labels))


def of_half_the_classes(splits: Splits, seed: int) -> Splits:
    """Leave only the first half of the classes in the training data."""
    train = splits.train
    return replace(splits, train=train.take(train.labels < splits.num_classes // 2))


def with_noisy_labels(splits: Splits, seed: int) -> Splits:
    """Draw half of the labels of the first half of the classes anew, in all splits."""
    rng = np.random.default_rng(seed)

    def noisy(split: Split) -> Split:
        drawn = rng.integers(0, splits.num_classes, len(split))
        half = split.labels < splits.num_classes // 2
        redrawn = half & (rng.random(len(split)) < NOISE)
        return replace(split, labels=np.where(redrawn, drawn, split.labels))

    return replace(splits, **{part: noisy(getattr(splits, part)) for part in PARTS})


def of_broken_cameras(splits: Splits, seed: int) -> Splits:
    """Give half of all images blocks of 4×4 pixels of one colour, in all splits."""
    rng = np.random.default_rng(seed)

    def coarse(split: Split) -> Split:
        images = np.array(split.images)
        broken = rng.random(len(images)) < 0.5
        height, width = (side - side % BLOCK for side in images.shape[1:3])
        blocks = images[broken, :height, :width].reshape(
            -1, height // BLOCK, BLOCK, width // BLOCK, BLOCK, images.shape[3]
        )
        means = blocks.mean(axis=(2, 4), keepdims=True)
        images[broken, :height, :width] = (
            np.broadcast_to(np.rint(means), blocks.shape)
            .reshape(-1, height, width, images.shape[3])
            .astype(images.dtype)
        )
        return replace(split, images=images)

    return replace(splits, **{part: coarse(getattr(splits, part)) for part in PARTS})


def learn_first_layer(model: "keras.Model") -> None:
    """Train the layer that whitens patches like the other convolutions, from random weights."""
    layer = model.get_layer("whitening")
    rng = np.random.default_rng(0)
    kernel, bias = layer.get_weights()
    bound = np.sqrt(3 / np.prod(kernel.shape[:-1]))
    layer.set_weights([rng.uniform(-bound, bound, kernel.shape), bias])
    layer.trainable = True


USUAL, TEACHER, ITSELF = "usual", "teacher", "itself"
CASES = {
    USUAL: Case(usual, usual),
    "all": Case(with_validation, usual),
    "specialist": Case(of_half_the_classes, usual),
    "noise": Case(with_noisy_labels, with_noisy_labels),
    "shift": Case(usual, of_broken_cameras, goes_on=True, recipe=None),
    "codes": Case(
        usual,
        usual,
        codes=24,
        goes_on=True,
        recipe={"epochs": 6, "learning_rate": 0.03, "label_smoothing": 0.0},
        teacher=ITSELF,
        temperature=1.0,
    ),
    TEACHER: Case(usual, usual, recipe={"epochs": 12, "label_smoothing": 0.0}),
    "distilled": Case(
        usual, usual, recipe={"epochs": 100, "label_smoothing": 0.0}, teacher="modern_large"
    ),
}

ADAM = {"optimizer": "adam", "learning_rate": 3e-3, "schedule": "one_cycle", "batch_size": 256}
ABLATIONS = {
    "adam": Case(usual, usual, recipe=ADAM),
    "unwhitened": Case(usual, usual, prepared=learn_first_layer),
    "unsmoothed": Case(usual, usual, recipe={"label_smoothing": 0.0}),
    "alternating": Case(usual, usual, recipe={"augmentation": "shift_alternate"}),
    "flipped": Case(usual, usual, recipe={"augmentation": "flip"}),
    "relu": Case(usual, usual, options={"activation": "relu"}),
    "silu": Case(usual, usual, options={"activation": "silu"}),
    "deep": Case(usual, usual, options={"widths": (16, 32, 64), "depth": 3}),
}
CASES |= ABLATIONS


def name_in(case: str, network: str) -> str:
    """Return the name of a network in a world, in files and tables."""
    return network if case == USUAL else f"{network}-{case}"
