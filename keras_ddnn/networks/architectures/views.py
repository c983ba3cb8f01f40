"""Networks of several cameras that see one object: each has a device, and all share a cloud."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import layers

from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.files.checks import as_counts, expect, require_choice, require_fraction
from keras_ddnn.networks.architectures.view_layers import (
    AGGREGATIONS,
    IN_FLOAT,
    AbsentViews,
    Aggregation,
    View,
    WherePresent,
)
from keras_ddnn.networks.layers import ByteDropout, FusedBatchNormalization, SimulatedQuantisation
from keras_ddnn.networks.paper import compute_policy

POOL = 2  # side of the max-pooling behind each convolution
DROPOUT = 0.25  # behind the dense layers of the cloud
# Sixteen codes of what normalisation and ReLU leave. Code 0 is 0 exactly, so that what is absent
# stays so; float16 and bfloat16 hold every value.
VIEW_CODES = Quantisation(low=0.0, step=0.25, bits=4)


@dataclass(frozen=True, kw_only=True)
class ViewsOptions:
    """Architecture of a network of several cameras. How many there are, the data say.

    Attributes:
        filters: Channels of each 3×3 convolution of a device, each of which halves the sides of the
            maps. The last are sent, an even number, in codes of four bits.
        local: How the scores of all devices make the local exit, one of `AGGREGATIONS`.
        cloud: How their feature maps make what the cloud reads.
        cloud_filters: Channels of each 3×3 convolution of the cloud, which halve the sides too.
        cloud_units: Widths of the dense layers behind them.
        absent: Share of the frames that are made black in training; see `AbsentViews`.

    Raises:
        ValueError: If a field lies outside its range.
    """

    filters: tuple[int, ...] = (16, 4)
    local: str = "max"
    cloud: str = "concatenation"
    cloud_filters: tuple[int, ...] = (64, 128)
    cloud_units: tuple[int, ...] = (128,)
    absent: float = 0.1

    def __post_init__(self) -> None:
        for name in ("filters", "cloud_filters", "cloud_units"):
            object.__setattr__(self, name, as_counts(name, getattr(self, name)))
        if not self.filters or self.filters[-1] % 2:
            raise ValueError(
                "filters must be one number or more, the last of them even, as two codes make a "
                f"byte; received {self.filters}"
            )
        for name in ("local", "cloud"):
            require_choice(name, getattr(self, name), AGGREGATIONS)
        require_fraction("absent", self.absent)
        absent = float(self.absent)
        expect(absent < 1, "absent", "less than 1, so that frames are left to learn from", absent)


def build_views(
    input_shape: Sequence[int], num_classes: int, options: ViewsOptions, precision: str = "auto"
) -> keras.Model:
    """Build a network of one device for each camera, and a cloud that all of them share.

    Each device has weights of its own: convolutions make its feature map, and a dense layer of that
    its scores of the classes. The local exit combines the scores of all devices, and the cloud
    combines their feature maps. A frame of zeros is a camera that is absent: its scores and its
    feature map are zeros, and aggregation leaves it out.

    Source: Teerapittayanon et al., "Distributed Deep Neural Networks over the Cloud, the Edge and
    End Devices", 2017. Its devices compute in bits; these send codes of four.

    Args:
        input_shape: (camera, height, width, channels) of uint8 frames.
        num_classes: Number of classes, at least 2.
        options: Architecture.
        precision: As of `TrainingConfig`.

    Returns:
        keras.Model: frames (n, D, h, w, c) → {"local": logits, "cloud": logits}, each float32 of
            shape (n, num_classes). The layer "features" gives what all devices send, (n, h', w',
            D·f), the channels of each side by side; `split_ddnn` cuts there.

    Raises:
        ValueError: If the frames are too small for so many convolutions, or are no frames.
    """
    smallest = POOL ** (len(options.filters) + len(options.cloud_filters))
    if len(input_shape) != 4 or input_shape[0] < 1 or min(input_shape[1:3]) < smallest:
        raise ValueError(
            "input_shape must be (camera, height, width, channels) with sides of at least "
            f"{smallest} pixels, as {len(options.filters)} convolutions of a device and "
            f"{len(options.cloud_filters)} of the cloud halve them; received {tuple(input_shape)}"
        )
    dtype = compute_policy(precision)

    def convolved(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, dtype=dtype, name=name)(x)
        x = FusedBatchNormalization(dtype=dtype, name=f"{name}_norm")(x)
        x = layers.MaxPooling2D(POOL, dtype=dtype, name=f"{name}_pool")(x)
        return layers.ReLU(dtype=dtype, name=f"{name}_relu")(x)

    images = keras.Input(input_shape, dtype="uint8", name="images")
    frames = AbsentViews(options.absent, name="absent")(images)
    maps, scores, devices = [], [], input_shape[0]
    for place in range(devices):
        device = f"device{place}"
        frame = View(place, name=f"{device}_frame")(frames)
        x = layers.Rescaling(1 / 127.5, -1.0, dtype=dtype, name=f"{device}_rescaling")(frame)
        for depth, width in enumerate(options.filters):
            x = convolved(x, width, f"{device}_conv_{depth}")
        maps.append(WherePresent(dtype=dtype, name=f"{device}_map")(x, frame))
        x = layers.Flatten(dtype=dtype, name=f"{device}_flatten")(x)
        x = layers.Dense(num_classes, dtype="float32", name=f"{device}_class_{IN_FLOAT}")(x)
        scores.append(WherePresent(dtype="float32", name=f"{device}_{IN_FLOAT}")(x, frame))

    x = layers.Concatenate(dtype="float32", name=f"all_{IN_FLOAT}")(scores)
    x = Aggregation(options.local, devices, dtype="float32", name=f"local_{IN_FLOAT}")(x)
    if options.local == "concatenation":
        x = layers.Dense(num_classes, dtype="float32", name=f"local_class_{IN_FLOAT}")(x)
    local = layers.Identity(dtype="float32", name="local")(x)

    x = layers.Concatenate(dtype=dtype, name="maps")(maps)
    x = SimulatedQuantisation(**VIEW_CODES.as_json(), dtype=dtype, name="features")(x)
    x = Aggregation(options.cloud, devices, dtype=dtype, name="cloud_aggregation")(x)
    for depth, width in enumerate(options.cloud_filters):
        x = convolved(x, width, f"cloud_conv_{depth}")
    x = layers.Flatten(dtype=dtype, name="cloud_flatten")(x)
    for depth, width in enumerate(options.cloud_units):
        x = layers.Dense(width, activation="relu", dtype=dtype, name=f"cloud_dense_{depth}")(x)
        x = ByteDropout(DROPOUT, dtype=dtype, name=f"cloud_dropout_{depth}")(x)
    cloud = layers.Dense(num_classes, dtype="float32", name="cloud")(x)
    return keras.Model(images, {"local": local, "cloud": cloud}, name="views")
