"""Small convolutional networks of today: whitened patches, then groups of convolutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

import keras
import numpy as np
from keras import layers

from keras_ddnn.files.checks import as_counts, require_choice, require_count, require_switch
from keras_ddnn.networks.architectures.modern_layers import Conv2D, Gelu
from keras_ddnn.networks.layers import Bias, FusedBatchNormalization, Whitening
from keras_ddnn.networks.paper import compute_policy

POOL = 2  # side of the max-pooling of each group
ACTIVATIONS: dict[str, Callable[..., layers.Layer]] = {
    "gelu": Gelu,
    "relu": partial(layers.Activation, "relu"),
    "silu": partial(layers.Activation, "silu"),
}
MOMENTUM = 0.6  # of batch statistics: few steps follow one another at a low learning rate


@dataclass(frozen=True, kw_only=True)
class ModernOptions:
    """Architecture of a network of groups of convolutions.

    Attributes:
        widths: Channels of each group.
        depth: Convolutions of a group.
        residual: Whether a group adds what its first convolution gave to what its last one gives.
        strided: Whether a group halves the sides of the maps by the stride of its first
            convolution, which then takes a quarter of the multiply-adds, or by max-pooling after.
        stride: Between patches of 2×2 pixels, which are whitened: 2 halves the sides of all maps.
        activation: A key of `ACTIVATIONS`.

    Raises:
        ValueError: If a field lies outside its range.
    """

    widths: tuple[int, ...] = (64, 256, 256)
    depth: int = 2
    residual: bool = False
    strided: bool = False
    stride: int = 1
    activation: str = "gelu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", as_counts("widths", self.widths))
        require_count(depth=self.depth, stride=self.stride)
        require_switch(residual=self.residual, strided=self.strided)
        if self.residual and self.depth < 2:
            raise ValueError(
                f"residual needs groups of at least 2 convolutions; received depth={self.depth}: "
                "pass depth=2, or residual=False"
            )
        require_choice("activation", self.activation, ACTIVATIONS)


def build_modern(
    input_shape: Sequence[int], num_classes: int, options: ModernOptions, precision: str = "auto"
) -> keras.Model:
    """Build a network of one output, which a chain takes for a tier, or `split` cuts.

    Patches of 2×2 pixels are whitened, and each group is a convolution that halves the sides, and
    further convolutions, each normalised and activated. The first filters of each convolution
    begin as identities. It is made for `ConvolutionalMuon`.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.

    Args:
        input_shape: (height, width, channels) of uint8 images.
        num_classes: Number of classes, at least 2.
        options: Architecture.
        precision: As of `TrainingConfig`.

    Returns:
        keras.Model: images (n, h, w, c) in 0..255 → logits, float32 of shape (n, num_classes).

    Raises:
        ValueError: If the images are too small for so many groups.
    """
    smallest = options.stride * POOL ** len(options.widths) + 1
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise ValueError(
            f"input_shape must be (height, width, channels) with sides of at least {smallest} "
            f"pixels for {len(options.widths)} groups; received {tuple(input_shape)}"
        )
    dtype = compute_policy(precision)

    def activated(x: keras.KerasTensor) -> keras.KerasTensor:
        return ACTIVATIONS[options.activation](dtype=dtype)(x)

    def normalised(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        norm = FusedBatchNormalization(MOMENTUM, scale=False, epsilon=1e-5, dtype=dtype, name=name)
        return norm(x)

    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype=dtype, name="rescaling")(images)
    x = Whitening(strides=options.stride, dtype=dtype, name="whitening")(x)
    x = activated(Bias(dtype=dtype, name="whitening_bias")(x))
    convolutions = []
    for group, width in enumerate(options.widths):
        first = None  # what the first convolution of the group gives
        for place in range(options.depth):
            name, halves = f"{group}_{place}", place == 0
            given = {"padding": "same", "use_bias": False, "dtype": dtype, "name": f"conv_{name}"}
            strides = POOL if halves and options.strided else 1
            convolutions.append(Conv2D(width, 3, strides, **given))
            x = convolutions[-1](x)
            if halves and not options.strided:
                x = layers.MaxPooling2D(POOL, dtype=dtype, name=f"pool_{group}")(x)
            x = normalised(x, f"norm_{name}")
            if options.residual and place == options.depth - 1:
                x = layers.Add(dtype=dtype, name=f"residual_{group}")([x, first])
            x = activated(x)
            first = x if first is None else first
    x = layers.GlobalMaxPooling2D(dtype=dtype, name="pooled")(x)
    x = layers.Dense(num_classes, use_bias=False, dtype="float32", name="scores")(x)
    logits = layers.Rescaling(1 / options.widths[-1], dtype="float32", name="logits")(x)
    model = keras.Model(images, logits, name="modern")
    rng = np.random.default_rng(keras.random.randint((), 0, 2**31 - 1, "int32").numpy())
    for convolution in convolutions:
        convolution.set_weights([_partly_identical(convolution.kernel.shape, rng)])
    shape = options.widths[-1], num_classes
    model.get_layer("scores").set_weights([rng.uniform(-sqrt(3), sqrt(3), shape)])  # variance 1
    return model


def _partly_identical(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return a kernel whose first filters pass a channel each, and whose others are random."""
    height, width, channels, filters = shape
    bound = 1 / sqrt(height * width * channels)
    kernel = rng.uniform(-bound, bound, shape)
    passed = np.arange(min(channels, filters))
    kernel[..., passed] = 0.0
    kernel[height // 2, width // 2, passed, passed] = 1.0
    return kernel
