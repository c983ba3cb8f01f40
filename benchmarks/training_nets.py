"""The networks of `benchmarks.training`, as one writes them in plain Keras and in PyTorch."""

import numpy as np

DROPOUT, SLOPE, MOMENTUM = 0.25, 0.1, 0.9
PAPER_NETS = ("pooled", "unpooled")  # the local network's map
MODERN = "modern"  # the cloud network of today, alone
IMAGES = {**dict.fromkeys(PAPER_NETS, 10_240), MODERN: 1_280}  # of an epoch
WIDTHS, MODERN_MOMENTUM, EPSILON = (64, 256, 256), 0.6, 1e-5


def data(net: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise for a network, uint8 (n, 32, 32, 3), and their labels (n,)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES[net], 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, IMAGES[net])


def keras_model(net: str):
    """Return a network by its layers as published: images as floats → {exit: logits}."""
    import keras
    from keras import layers

    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    if net == MODERN:
        x = layers.Conv2D(24, 2)(x)
        x = layers.Activation("gelu")(x)
        for width in WIDTHS:
            for place in range(2):
                x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
                x = x if place else layers.MaxPooling2D()(x)
                x = layers.BatchNormalization(momentum=MODERN_MOMENTUM, scale=False)(x)
                x = layers.Activation("gelu")(x)
        x = layers.GlobalMaxPooling2D()(x)
        logits = layers.Rescaling(1 / WIDTHS[-1])(layers.Dense(10, use_bias=False)(x))
        return keras.Model(images, {"cloud": layers.Identity(name="cloud")(logits)})

    def activation():
        return layers.LeakyReLU(negative_slope=SLOPE)

    x = activation()(layers.Conv2D(32, 3, padding="same")(x))
    features = layers.MaxPooling2D()(x) if net == "pooled" else x
    x = activation()(layers.Dense(64)(layers.Flatten()(features)))
    local = layers.Dense(10, name="local")(x)
    x = features
    for widths in ((32, 32), (64, 64, 128)):
        for width in widths:
            x = layers.Conv2D(width, 3, padding="same")(x)
            x = activation()(layers.BatchNormalization(momentum=MOMENTUM)(x))
        x = layers.Dropout(DROPOUT)(layers.MaxPooling2D()(x))
    x = layers.Flatten()(x)
    for width in (256, 64):
        x = layers.Dropout(DROPOUT)(activation()(layers.Dense(width)(x)))
    cloud = layers.Dense(10, name="cloud")(x)
    return keras.Model(images, {"local": local, "cloud": cloud})


def torch_networks(net: str) -> list:
    """Return modules: what all exits read of images (n, 3, 32, 32) of -1 to 1, and each exit."""
    return _torch_modern() if net == MODERN else _torch_paper(net == "pooled")


def _torch_modern():
    import torch
    from torch import nn

    layers, channels = [nn.Conv2d(3, 24, 2), nn.GELU()], 24
    for width in WIDTHS:
        for place in range(2):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            layers += [] if place else [nn.MaxPool2d(2)]
            layers += [
                nn.BatchNorm2d(width, momentum=1 - MODERN_MOMENTUM, eps=EPSILON),
                nn.GELU(),
            ]
            channels = width
            layers[-2].weight.requires_grad_(False)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Linear(channels, 10, bias=False)

        def forward(self, maps):
            return self.scores(torch.amax(maps, (2, 3))) / channels

    return [nn.Sequential(*layers), Scaled()]


def _torch_paper(pooled):
    from torch import nn

    def block(*layers):
        return nn.Sequential(*layers)

    def pool(active=True):
        return nn.MaxPool2d(2) if active else nn.Identity()

    device_side = block(nn.Conv2d(3, 32, 3, padding=1), nn.LeakyReLU(SLOPE), pool(pooled))
    side = 16 if pooled else 32
    local = block(nn.Flatten(), nn.Linear(32 * side**2, 64), nn.LeakyReLU(SLOPE), nn.Linear(64, 10))
    layers, channels = [], 32
    for widths in ((32, 32), (64, 64, 128)):
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, momentum=1 - MOMENTUM),
                nn.LeakyReLU(SLOPE),
            ]
            channels = width
        layers += [pool(), nn.Dropout(DROPOUT)]
    width = channels * (side // 4) ** 2
    layers.append(nn.Flatten())
    for units in (256, 64):
        layers += [nn.Linear(width, units), nn.LeakyReLU(SLOPE), nn.Dropout(DROPOUT)]
        width = units
    return [device_side, local, block(*layers, nn.Linear(width, 10))]
