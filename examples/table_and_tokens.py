"""No images: a table of numbers in a chain, and sequences of tokens in a model that is cut.

    python examples/table_and_tokens.py [FOLDER]

The table is scikit-learn's breast cancer: the device's dense network sends the row itself. The
sequences are made here: the class is which of two words comes first. It takes about a minute.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_breast_cancer
from two_machines import parity

import keras_ddnn
from keras_ddnn import DDNNConfig, HeadConfig, Split, Splits

WORDS, LENGTH = 40, 24
HEADS = {"head": HeadConfig(epochs=10)}


def splits_of(name: str, inputs: np.ndarray, labels: np.ndarray, class_names) -> Splits:
    """Return shuffled samples, 60% to train, 20% to validate and 20% to test."""
    order = np.random.default_rng(0).permutation(len(labels))
    parts = np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])
    return Splits(name, *(Split(inputs[p], labels[p]) for p in parts), tuple(class_names))


def dense(width: int, table: np.ndarray) -> keras.Model:
    """Return a dense network that normalises its columns."""
    rows = keras.Input(table.shape[1:])
    norm = layers.Normalization()
    norm.adapt(table)
    x = layers.Dense(width, activation="relu")(norm(rows))
    x = layers.Dense(width, activation="relu")(x)
    return keras.Model(rows, layers.Dense(2)(x), name=f"width_{width}")


def sentences(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (n, LENGTH) and whether word 1 comes before word 2, (n,)."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, WORDS, (n, LENGTH), dtype=np.int32)
    places = np.sort(rng.permuted(np.tile(np.arange(LENGTH), (n, 1)), axis=1)[:, :2], axis=1)
    labels = rng.integers(0, 2, n)
    tokens[np.arange(n), places[:, 0]] = 1 + labels
    tokens[np.arange(n), places[:, 1]] = 2 - labels
    return tokens, labels


def reader() -> keras.Model:
    """Return an embedding and four convolutions, which see ever more of a sentence."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(WORDS, 12)(tokens)
    for number in range(4):
        x = layers.Conv1D(24, 5, padding="same", activation="relu", name=f"conv_{number}")(x)
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)), name="reader")


def main(folder: Path, samples: int = 3000, epochs: int = 8) -> None:
    """Go the whole way; see the top of the file."""
    keras.utils.set_random_seed(0)
    data = load_breast_cancer()
    table = splits_of("table", data.data.astype(np.float32), data.target, data.target_names)
    train = table.train.images
    network = keras_ddnn.chain({"local": dense(2, train), "cloud": dense(32, train)})
    serve("a table in a chain", network, table, folder / "table", 2 * epochs)
    tokens = splits_of("tokens", *sentences(samples), ("2 first", "1 first"))
    serve("tokens cut", keras_ddnn.split(reader(), at="conv_0"), tokens, folder / "tokens", epochs)


def serve(
    name: str, network: keras_ddnn.Cascade, splits: Splits, folder: Path, epochs: int
) -> None:
    """Train a network and a head, save the artefact and serve it."""
    recipe = DDNNConfig(epochs=epochs, batch_size=32, learning_rate=3e-3)
    options = {"network": network, "artifact": folder, "verbose": 0}
    report, _ = keras_ddnn.run(splits, recipe, HEADS, **options)
    print(report.facts["payload"]["verdict"])
    parity(name, folder, splits.test.images, splits.test.user_labels)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/table_and_tokens"))
