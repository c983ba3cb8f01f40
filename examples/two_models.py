"""Two models of one's own in a chain: the small one on the device, the image travels on.

    python examples/two_models.py [FOLDER]

The device's model takes 16×16 pixels, the cloud's 32×32. Then a third model whose weights are
loaded: it is cut, and only its exit is trained. It takes about two minutes on two cores.
"""

import sys
from pathlib import Path

import keras
from keras import layers
from two_machines import parity

import keras_ddnn
from keras_ddnn import DDNNConfig, HeadConfig
from keras_ddnn.data.splits import Splits

WIDE = (32, 64, 128)
COUNTS = {"train": 2000, "val": 500, "test": 500}


def model_of(side: int, widths: tuple[int, ...]) -> keras.Model:
    """Return convolutions of some widths on images of a side, to ten classes."""
    images = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(images)
    for number, width in enumerate(widths):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(name=f"norm_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10)(x), name=f"side_{side}")


def part_of(splits: Splits, counts: dict[str, int]) -> Splits:
    """Return the first so many samples of each split."""
    parts = [getattr(splits, name).take(slice(count)) for name, count in counts.items()]
    return Splits(splits.name, *parts, splits.class_names)


def pretrain(path: Path, splits: Splits, epochs: int) -> None:
    """Train a model the ordinary way, and write its weights."""
    model = model_of(32, WIDE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(splits.train.images, splits.train.labels, epochs=epochs, verbose=0)
    model.save_weights(path)


def main(folder: Path, counts: dict[str, int] = COUNTS, epochs: int = 4) -> None:
    """Go the whole way; see the top of the file."""
    splits = part_of(keras_ddnn.load("cluttered_digits"), counts)
    keras.utils.set_random_seed(0)
    network = keras_ddnn.chain({"local": model_of(16, (8, 16)), "cloud": model_of(32, WIDE)})
    recipe = DDNNConfig(epochs=epochs, batch_size=32, learning_rate=3e-3)
    options = {"heads": {"head": HeadConfig(epochs=5)}, "verbose": 0}
    chained = folder / "chain"
    report, _ = keras_ddnn.run(splits, recipe, network=network, artifact=chained, **options)
    print(report.facts["payload"]["verdict"])
    test = splits.test
    parity("two models in a chain", chained, test.images, test.user_labels)

    pretrain(folder / "pretrained.weights.h5", splits, epochs)
    # A model with weights of its own, which are loaded: the answers of the cloud stay its answers.
    cloud = model_of(32, WIDE)
    cloud.load_weights(folder / "pretrained.weights.h5")
    network = keras_ddnn.split(cloud, at="pool_0", exit=32, freeze=True)
    frozen = folder / "frozen"
    keras_ddnn.run(splits, recipe, network=network, artifact=frozen, **options)
    parity("a trained model of which the exit is trained", frozen, test.images, test.user_labels)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/two_models"))
