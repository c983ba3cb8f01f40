"""Small networks of every kind, cut and chained, and toy data that they learn in an epoch."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import toy_split
from keras import layers

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Splits
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.networks.compose import chain, split, with_codes
from keras_ddnn.rules.confidence import Gate, Margin
from keras_ddnn.training.capture import capture
from keras_ddnn.training.trainable import start_whitening

SIDE, COLUMNS, LENGTH, WORDS = 16, 6, 12, 30
CODES = 6  # of half a byte, of each patch
RECIPE = {"epochs": 1, "batch_size": 16, "verbose": 0}


def image_model(side: int = SIDE) -> keras.Model:
    """Return a small MobileNetV2: inverted residual blocks on images of a side."""
    images = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(images)
    for block in range(2):
        before = x
        x = layers.Conv2D(6, 1, use_bias=False, name=f"block_{block}_expand")(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.Conv2D(4, 1, use_bias=False)(layers.BatchNormalization()(x))
        x = layers.BatchNormalization(name=f"block_{block}_project_BN")(x)
        x = layers.Add(name=f"block_{block}_add")([before, x]) if block else x
    return keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def table_model(width: int = 8) -> keras.Model:
    """Return a dense network of a table whose columns it normalises."""
    table = keras.Input((COLUMNS,))
    norm = layers.Normalization(name="norm")
    norm.adapt(table_data(60)[0])
    x = layers.Dense(width, activation="relu", name="hidden")(norm(table))
    return keras.Model(table, layers.Dense(3)(layers.Dense(width, activation="relu")(x)))


def token_model(width: int = 6) -> keras.Model:
    """Return an embedding and a convolution of a sequence of tokens."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Conv1D(width, 3, activation="relu", name="conv")(layers.Embedding(WORDS, 4)(tokens))
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


def image_data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise, brighter the higher the class."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    images = rng.normal(60 + 60 * labels[:, None, None, None], 50, (n, SIDE, SIDE, 3))
    return images.clip(0, 255).astype(np.uint8), labels


def table_data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of columns on scales of their own, larger the higher the class."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    return (rng.normal(labels[:, None], 1.0, (n, COLUMNS)) * 10.0 ** np.arange(COLUMNS)), labels


def token_data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences of words, of which each class prefers ten."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    own = rng.integers(0, 10, (n, LENGTH)) + 10 * labels[:, None]
    return np.where(rng.random((n, LENGTH)) < 0.4, own, rng.integers(0, WORDS, own.shape)), labels


# A model, the size of a smaller one, the layer to cut at and what makes the data.
MODELS = {
    "images": (image_model, 8, "block_0_project_BN", image_data),
    "tables": (table_model, 2, "hidden", table_data),
    "tokens": (token_model, 2, "conv", token_data),
}
# Of a sample, as it travels.
BYTES = {
    "images cut": 2 * SIDE * SIDE * 4,
    "images chained": SIDE * SIDE * 3,
    "images coded": (SIDE // 4) ** 2 * CODES // 2,
    "images cut-coded": (SIDE // 2) ** 2 * CODES // 2,
    "tables cut": 2 * 8,
    "tables chained": 4 * COLUMNS,
    "tokens cut": 2 * (LENGTH - 2) * 6,
    "tokens chained": 4 * LENGTH,
}


def network_of(kind: str) -> tuple[Cascade, Callable, int]:
    """Return an untrained network of a key of `BYTES`, what makes its data, and those bytes."""
    keras.utils.set_random_seed(0)
    what, way = kind.split()
    model, small, layer, data = MODELS[what]

    def models():
        return {"local": model(small), "cloud": model()}

    network = {
        "cut": lambda: split(model(), layer),
        "cut-coded": lambda: with_codes(split(model(), layer), CODES),
        "chained": lambda: chain(models()),
        "coded": lambda: chain(models(), codes=CODES),
    }[way]()
    start_whitening(network.model, data(60)[0])
    return network, data, BYTES[kind]


KINDS = (
    "images cut",
    "images chained",
    "images coded",
    "images cut-coded",
    "tables cut",
    "tokens cut",
    "tokens chained",
)


@contextmanager
def importable(folder: Path, name: str, code: str) -> Iterator[Path]:
    """Give a folder a module of a user's code, which can be imported here and by workers."""
    (folder / f"{name}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        paths = (str(folder), os.environ.get("PYTHONPATH"))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield folder
    sys.modules.pop(name, None)


def small_splits() -> Splits:
    """Return a few images of three classes for networks of a user."""
    parts = [toy_split(n, seed) for n, seed in ((96, 0), (30, 1), (30, 2))]
    return Splits("toy", *parts, ("a", "b", "c"))


def three_tiers() -> Cascade:
    """Return an untrained network of images, cut in three; its features are not negative."""
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(images)
    for name, filters in {"first": 4, "second": 6}.items():
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(name=name)(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    return split(model, ["first", "second"])


def halving_gates(bank: Bank) -> list[Gate]:
    """Return a gate for each tier but the last, which sends on about half of what reaches it.

    Its threshold lies in the middle of the widest gap between scores there.
    """
    gates, left = [], np.ones(len(bank), bool)
    for name in [*bank.tiers][:-1]:
        ranked = np.sort(Margin().score(bank.at(name))[left])
        third = len(ranked) // 3
        place = third + np.argmax(np.diff(ranked[third:-third]))
        gates.append(Gate(Margin(), float(ranked[place : place + 2].mean())))
        left &= gates[-1].sends_on(bank.at(name))
    return gates


def policy_of_three() -> tuple[OffloadPolicy, Bank]:
    """Return a policy of `three_tiers` by `halving_gates`, and its bank of 96 images."""
    network, (images, labels) = three_tiers(), image_data(96)
    bank = capture(network, images, labels)
    first, *later = halving_gates(bank)
    given = first.rule, first.score_threshold, ("a", "b", "c")
    return OffloadPolicy(network, None, *given, later=later), bank
