"""Small convolutional networks of today: whitened patches, then groups of convolutions."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

import keras
import numpy as np
from keras import layers

from keras_ddnn.files.checks import as_counts, expect, require_choice, require_count, require_switch
from keras_ddnn.networks.architectures.modern_layers import Conv2D, Gelu
from keras_ddnn.networks.inputs_and_exits import Exit
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
    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype=dtype, name="rescaling")(images)
    x = Whitening(strides=options.stride, dtype=dtype, name="whitening")(x)
    x = Bias(dtype=dtype, name="whitening_bias")(x)
    x = ACTIVATIONS[options.activation](dtype=dtype, name="activation")(x)
    return keras.Model(images, _logits_of(x, num_classes, options, dtype), name="modern")


def modern_exit(num_classes: int, options: ModernOptions, precision: str = "auto") -> Exit:
    """Return an exit for `split`: a feature map → logits, by groups of convolutions.

    Args:
        num_classes: Number of classes, at least 2.
        options: Of its groups; they whiten nothing, so that `stride` is without meaning.
        precision: As of `TrainingConfig`.

    Returns:
        Exit: Of one cut or of several; it makes other layers for each.

    Raises:
        ValueError: If it is given no map, or one that is too small for so many groups.
    """
    dtype, prefixes = compute_policy(precision), map("exit_{}_".format, itertools.count())

    def exit(maps: keras.KerasTensor) -> keras.KerasTensor:
        smallest = POOL ** (len(options.widths) - 1)
        shape = tuple(maps.shape[1:])
        fits = len(shape) == 3 and min(shape[:2]) >= smallest
        wanted = f"a feature map (h, w, c) with sides of at least {smallest} for its groups"
        expect(fits, "what a modern_exit reads", wanted, shape)
        return _logits_of(maps, num_classes, options, dtype, next(prefixes))

    return exit


def _logits_of(
    x: keras.KerasTensor, num_classes: int, options: ModernOptions, dtype: str, prefix: str = ""
) -> keras.KerasTensor:
    """Return what groups of convolutions say of a map, started from a draw of Keras' seed."""
    convolutions = []
    for group, width in enumerate(options.widths):
        first = None  # what the first convolution of the group gives
        for place in range(options.depth):
            name, halves = f"{group}_{place}", place == 0
            strides = POOL if halves and options.strided else 1
            given = {"padding": "same", "use_bias": False, "dtype": dtype}
            convolutions.append(Conv2D(width, 3, strides, **given, name=f"{prefix}conv_{name}"))
            x = convolutions[-1](x)
            if halves and not options.strided:
                x = layers.MaxPooling2D(POOL, dtype=dtype, name=f"{prefix}pool_{group}")(x)
            given = {"scale": False, "epsilon": 1e-5, "dtype": dtype}
            x = FusedBatchNormalization(MOMENTUM, **given, name=f"{prefix}norm_{name}")(x)
            if options.residual and place == options.depth - 1:
                x = layers.Add(dtype=dtype, name=f"{prefix}residual_{group}")([x, first])
            activation = ACTIVATIONS[options.activation]
            x = activation(dtype=dtype, name=f"{prefix}activation_{name}")(x)
            first = x if first is None else first
    x = layers.GlobalMaxPooling2D(dtype=dtype, name=f"{prefix}pooled")(x)
    scores = layers.Dense(num_classes, use_bias=False, dtype="float32", name=f"{prefix}scores")
    x, width = scores(x), options.widths[-1]
    rng = np.random.default_rng(keras.random.randint((), 0, 2**31 - 1, "int32").numpy())
    for convolution in convolutions:
        convolution.set_weights([_partly_identical(convolution.kernel.shape, rng)])
    scores.set_weights([rng.uniform(-sqrt(3), sqrt(3), (width, num_classes))])  # variance 1
    return layers.Rescaling(1 / width, dtype="float32", name=f"{prefix}logits")(x)


def _partly_identical(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return a kernel whose first filters pass a channel each, and whose others are random."""
    height, width, channels, filters = shape
    bound = 1 / sqrt(height * width * channels)
    kernel = rng.uniform(-bound, bound, shape)
    passed = np.arange(min(channels, filters))
    kernel[..., passed] = 0.0
    kernel[height // 2, width // 2, passed, passed] = 1.0
    return kernel
