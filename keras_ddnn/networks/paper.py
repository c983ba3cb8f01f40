"""The distributed deep neural network: one functional model, cut into a local and a cloud part."""

import re
from functools import partial

import keras
import tensorflow as tf
from keras import layers

from keras_ddnn.config.network import BOTTLENECK_BLOCK, feature_quantisation
from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.rows.sizes import SMALLEST_SIDE
from keras_ddnn.networks.architectures.processor import processor
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.networks.layers import (
    Bias,
    ByteDropout,
    DepthToSpace,
    FusedBatchNormalization,
    SimulatedQuantisation,
)

NEGATIVE_SLOPE = 0.1  # of LeakyReLU; the paper names none


def build_ddnn(input_shape, num_classes: int, config: DDNNConfig | None = None) -> keras.Model:
    """Build the DDNN of the paper as one functional model.

    Args:
        input_shape: (height, width, channels) of uint8 images; height and width at least 16.
        num_classes: Number of classes, at least 2.
        config: Architecture and precision; the paper's by default.

    Returns:
        keras.Model: images (n, h, w, c) in 0..255 → {"local": logits, "cloud": logits}, each
            float32 of shape (n, num_classes). `split_ddnn` cuts it in two, at the layer "features".
            With a bottleneck only the cloud network reads that layer; the local classifier reads
            the map before it.

    Raises:
        ValueError: If the shape or the number of classes cannot make a network.
    """
    config = config or DDNNConfig()
    if len(input_shape) != 3 or min(input_shape[:2]) < SMALLEST_SIDE:
        cameras = ": of several cameras pass network='views'" if len(input_shape) == 4 else ""
        raise ValueError(
            "input_shape must be (height, width, channels) with sides of at least "
            f"{SMALLEST_SIDE} pixels; received {tuple(input_shape)}{cameras}"
        )
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2; received {num_classes}")

    halvings = config.local_pool + len(config.cloud_filters)
    if min(input_shape[:2]) < 2**halvings:
        raise ValueError(
            f"input_shape must have sides of at least {2**halvings} pixels, for local_pool and the "
            f"blocks of cloud_filters halve them {halvings} times; received {tuple(input_shape)}"
        )

    dtype = compute_policy(config.precision)
    conv = partial(layers.Conv2D, kernel_size=3, padding="same", dtype=dtype)
    dense = partial(layers.Dense, dtype=dtype)
    logits = partial(layers.Dense, num_classes, dtype="float32")
    pool = partial(layers.MaxPooling2D, 2, dtype=dtype)
    leaky_relu = partial(layers.LeakyReLU, negative_slope=NEGATIVE_SLOPE, dtype=dtype)

    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, dtype=dtype, name="rescaling")(images)
    x = conv(config.local_filters, use_bias=False, name="local_conv")(x)
    # Bias and activation keep the order of values: after pooling they do the same for a quarter of
    # the work.
    if config.local_pool:
        x = pool(name="local_pool")(x)
    local_map = leaky_relu()(Bias(dtype=dtype, name="local_bias")(x))
    if config.bottleneck:
        # Of a block of places together: neighbours tell much of each other.
        block = {"kernel_size": BOTTLENECK_BLOCK, "strides": BOTTLENECK_BLOCK}
        x = conv(config.bottleneck, **block, use_bias=False, name="bottleneck")(local_map)
        x = FusedBatchNormalization(dtype=dtype, name="bottleneck_norm")(x)
        codes = feature_quantisation(config)
        features = SimulatedQuantisation(**codes.as_json(), dtype=dtype, name="features")(x)
    else:
        local_map = features = layers.Identity(dtype=dtype, name="features")(local_map)

    def local_dropout(x):
        return ByteDropout(config.local_dropout, dtype=dtype)(x) if config.local_dropout else x

    x = local_dropout(layers.Flatten(dtype=dtype, name="local_flatten")(local_map))
    x = local_dropout(leaky_relu()(dense(config.local_units, name="local_dense")(x)))
    local = logits(name="local")(x)

    x = features
    if config.bottleneck:
        widths = BOTTLENECK_BLOCK * BOTTLENECK_BLOCK * config.local_filters
        x = conv(widths, kernel_size=1, use_bias=False, name="cloud_widen")(x)
        x = leaky_relu()(FusedBatchNormalization(dtype=dtype, name="cloud_widen_norm")(x))
        x = DepthToSpace(BOTTLENECK_BLOCK, dtype=dtype, name="cloud_places")(x)
        # The convolution has filled up what is no whole number of blocks.
        surplus = [(0, -side % BOTTLENECK_BLOCK) for side in local_map.shape[1:3]]
        x = layers.Cropping2D(surplus, dtype=dtype, name="cloud_crop")(x)
    for block, widths in enumerate(config.cloud_filters):
        for depth, width in enumerate(widths):
            x = leaky_relu()(x) if depth else x
            x = conv(width, use_bias=False, name=f"cloud_conv_{block}_{depth}")(x)
            x = FusedBatchNormalization(dtype=dtype, name=f"cloud_norm_{block}_{depth}")(x)
        x = leaky_relu()(pool(name=f"cloud_pool_{block}")(x))
        x = ByteDropout(config.dropout, dtype=dtype)(x)
    x = layers.Flatten(dtype=dtype, name="cloud_flatten")(x)
    for depth, width in enumerate(config.cloud_units):
        x = leaky_relu()(dense(width, name=f"cloud_dense_{depth}")(x))
        x = ByteDropout(config.dropout, dtype=dtype)(x)
    cloud = logits(name="cloud")(x)

    return keras.Model(images, {"local": local, "cloud": cloud}, name="ddnn")


def split_ddnn(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut a DDNN into its two halves; both share the weights of `model`.

    Args:
        model: A DDNN; see `build_ddnn`.

    Returns:
        local_model: images (n, h, w, c) → {"features": (n, h', w', f), "local": logits (n,
            num_classes)}.
        cloud_model: features (n, h', w', f) → logits (n, num_classes).
    """
    return as_cascade(model).halves()


def resolve_precision(precision: str) -> str:
    """Return the compute type for a `Precision`, resolving "auto" to the fastest of the hardware.

    bfloat16 on GPUs of compute capability 8, on CPUs with matrix units for it (Intel's AMX, ARM's
    bf16) and on AMD's with vectors for it (avx512_bf16), float16 on older GPUs, float32 elsewhere.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
        return "bfloat16" if capability and capability >= (8, 0) else "float16"
    cpu = processor()
    matrices = re.search(r"\b(amx_bf16|bf16)\b", cpu)
    # Vectors alone are not always faster: one machine without matrix units took 1.5 times as long
    # with them as in float32, AMD's cores take two thirds.
    vectors = "AuthenticAMD" in cpu and "avx512_bf16" in cpu
    return "bfloat16" if matrices or vectors else "float32"


def compute_policy(precision: str) -> str:
    """Return the Keras dtype policy of a `Precision`: weights float32, arithmetic as resolved."""
    precision = resolve_precision(precision)
    return "float32" if precision == "float32" else f"mixed_{precision}"


def prepare_training(model: keras.Model, targets) -> None:
    """Create what a compiled model trains with: the optimizer's slots, and losses' and metrics'.

    Keras would create them in the first step of training, and trace that step twice for it, which
    takes a third of the time of a short training.

    Args:
        model: Compiled.
        targets: Targets of one sample, in the structure of the model's outputs.
    """
    model.optimizer.build(model.trainable_variables)
    outputs = tf.nest.map_structure(lambda x: tf.zeros((1, *x.shape[1:]), x.dtype), model.output)
    model.compute_loss(y=targets, y_pred=outputs)
    model.compute_metrics(None, targets, outputs)
    model.reset_metrics()


def save_weights(model: keras.Model, path) -> None:
    """Write the weights of a model, without the optimizer's slots: nobody trains it any further.

    Args:
        model: Compiled or not. A file of a compiled model that Keras itself has written holds three
            times as much, and reads the same.
        path: Ends in `.weights.h5`.
    """
    optimizer = getattr(model, "optimizer", None)  # of a model that is compiled
    try:
        model.optimizer = None
        model.save_weights(path)
    finally:
        model.optimizer = optimizer
