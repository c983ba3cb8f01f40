"""MobileNetV2, cut at a layer, from a folder of images to two machines.

    python examples/any_network.py [FOLDER]

It writes FOLDER/data, 96×96 images of four shapes in folders by class, trains both exits of
`keras.applications.MobileNetV2` for a few epochs, trains a head, saves FOLDER/artifact, and serves
it by two processes. It takes about three minutes on two cores, and downloads nothing.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw
from two_machines import parity

import keras_ddnn
from keras_ddnn import DDNNConfig, HeadConfig

SIDE = 96
SHAPES = ("bar", "cross", "disc", "ring")
COUNTS = {"train": 480, "val": 80, "test": 80}
CUT = "block_3_project_BN"
EPOCHS = 5


def drawn(shape: str, rng: np.random.Generator) -> Image.Image:
    """Return one of `SHAPES`, of any colour and place, on a noisy ground."""
    ground, ink = rng.integers(0, 100, 3), rng.integers(140, 256, 3)
    noise = rng.normal(ground, 15, (SIDE, SIDE, 3)).clip(0, 255)
    image = Image.fromarray(noise.astype(np.uint8))
    draw, ink = ImageDraw.Draw(image), tuple(map(int, ink))
    size = int(rng.integers(24, 44))
    x, y = (int(place) for place in rng.integers(4, SIDE - size - 4, 2))
    middle, box = size // 2, (x, y, x + size, y + size)
    if shape in ("bar", "cross"):
        draw.line((x, y + middle, x + size, y + middle), ink, 8)
    if shape == "cross":
        draw.line((x + middle, y, x + middle, y + size), ink, 8)
    if shape == "disc":
        draw.ellipse(box, ink)
    if shape == "ring":
        draw.ellipse(box, None, ink, 6)
    return image


def write_images(folder: Path, counts: dict[str, int] = COUNTS) -> None:
    """Write images as split/class/number.png."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for number in range(count):
            place = folder / split / SHAPES[number % len(SHAPES)] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn(place.parent.name, rng).save(place)


def main(folder: Path, counts: dict[str, int] = COUNTS, epochs: int = EPOCHS) -> None:
    """Go the whole way; see the top of the file."""
    write_images(folder / "data", counts)
    splits = keras_ddnn.load(str(folder / "data"))
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        input_shape=(SIDE, SIDE, 3), weights=None, classes=len(SHAPES)
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # its 0.999 is for a training of many thousand steps
    preprocess = keras.layers.Rescaling(1 / 127.5, -1.0)
    network = keras_ddnn.split(model, at=CUT, preprocess=preprocess)
    recipe = DDNNConfig(epochs=epochs, batch_size=16, schedule="one_cycle", learning_rate=2e-3)
    report, _ = keras_ddnn.run(
        splits,
        recipe,
        {"head": HeadConfig(epochs=10)},
        network=network,
        artifact=folder / "artifact",
        verbose=2,
    )
    print(report.facts["payload"]["verdict"])
    parity(
        f"MobileNetV2 at {CUT}", folder / "artifact", splits.test.images, splits.test.user_labels
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/any_network"))
