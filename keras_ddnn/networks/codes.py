"""Codes of patches: what a device can send of any image, or feature map, in place of it."""

import itertools
from collections.abc import Collection
from math import gcd

import keras
import tensorflow as tf
from keras import layers

from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.files.checks import expect, is_integer
from keras_ddnn.networks.layers import DepthToSpace, SimulatedQuantisation, Unwhitening, Whitening

PATCH = 4  # side of a patch, pixels
BLOCK = 2  # side of a patch of a feature map, whose places tell less of each other than pixels
# Names of the layers that make codes, and round them.
COMPONENTS, CODES, SENT = "components", "codes", "rounded_codes"
DECODED = "decoded"  # the layer that makes images of them
PIXELS, REMADE, PATCHES = "pixels", "remade", "patches"  # and those between
NAMES = (PIXELS, COMPONENTS, CODES, SENT, REMADE, PATCHES, DECODED)
TWICE = 6  # one code of so many tells what the rounding of another leaves


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Remainders(SimulatedQuantisation):
    """Puts behind the values of a place what their rounding leaves, enlarged to the range of codes.

    Args:
        count: The remainders of how many of the values (…, v), the first.
        **options: Of `SimulatedQuantisation`.
    """

    def __init__(self, count, **options):
        super().__init__(**options)
        self.count = count

    def get_config(self):
        """Return the arguments that rebuild the layer."""
        return super().get_config() | {"count": self.count}

    def call(self, inputs):
        """Return (…, v + count) values; those of `inputs` come first, as they are."""
        left = (inputs - super().call(inputs))[..., : self.count]
        return tf.concat([inputs, left * 2**self.quantisation.bits], axis=-1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the values."""
        return *input_shape[:-1], input_shape[-1] + self.count


@keras.saving.register_keras_serializable(package="keras_ddnn")
class Remade(Remainders):
    """Adds to rounded values the remainders that follow them: the way back from `Remainders`."""

    def call(self, inputs):
        """Return the values (…, v) of (…, v + count)."""
        values, left = tf.split(inputs, [inputs.shape[-1] - self.count, self.count], axis=-1)
        behind = [[0, 0]] * (len(inputs.shape) - 1) + [[0, values.shape[-1] - self.count]]
        return values + tf.pad(left / 2**self.quantisation.bits, behind)

    def compute_output_shape(self, input_shape):
        """Return the shape of the values."""
        return *input_shape[:-1], input_shape[-1] - self.count


PATCH_LAYERS = frozenset(map(keras.saving.get_registered_name, (Remainders, Remade)))


def code_patches(
    maps: keras.KerasTensor, count: int, taken: Collection[str] = ()
) -> tuple[str, keras.KerasTensor]:
    """Return which layer's output is sent of images or feature maps, and what is made of it.

    A patch becomes its first principal components, each of variance 1 and rounded to four bits. A
    sixth of the codes tell what that rounding leaves of the components of largest variance, which
    would otherwise be most of the error. A patch has 4×4 pixels of an image, 2×2 places of a
    feature map of even sides, and else one. 64 patches of an image of 32×32 pixels and 24 codes
    take 768 bytes. The layers there and back take their weights from the first data the network is
    trained on, and keep them.

    Args:
        maps: uint8 images (n, h, w, c), sides whole patches; or feature maps of such a shape.
        count: Codes of a patch of p×p, an even number, as two make a byte; at most p²·c.
        taken: Names of layers that the model has; those of the codes are then numbered.

    Returns:
        Name of the layer that makes the values of the codes, (n, h/p, w/p, count); and float32
            images of about 0 to 255, or feature maps, of the shape of `maps`.

    Raises:
        ValueError: If there are neither, or another number of codes.
    """
    shape, image = tuple(maps.shape[1:]), maps.dtype == "uint8"
    received = f"{maps.dtype} of shape {shape}"
    known = len(shape) == 3 and None not in shape
    known &= image or keras.backend.is_float_dtype(maps.dtype)
    wanted = "uint8 images, or feature maps (n, h, w, c) of known sides: cut the model at such"
    expect(known, "what is sent as codes", wanted, received)
    whole = not image or not any(each % PATCH for each in shape[:2])
    wanted = f"uint8 images whose sides are multiples of {PATCH} pixels"
    expect(whole, "what is sent as codes", wanted, received)
    side = PATCH if image else gcd(BLOCK, *shape[:2])
    values = side * side * shape[2]
    expect(values > 1, "what is sent as codes", "maps of two channels or even sides", received)
    fits = is_integer(count) and 2 <= count <= values and count % 2 == 0
    patch = f"codes of a patch of {side}×{side}×{shape[2]} values"
    expect(fits, patch, f"an even number of 2 to {values}", repr(count))
    suffixes = (f"_{number}" if number else "" for number in itertools.count())
    suffix = next(end for end in suffixes if not {name + end for name in NAMES} & {*taken})

    def named(name: str) -> dict:
        return {"name": name + suffix, "dtype": "float32"}

    x = layers.Rescaling(1.0, **named(PIXELS))(maps)
    twice, steps = int(count) // TWICE, BOTTLENECK_CODES.as_json()
    kept = {"opposites": False, "strides": side}
    x = Whitening(side, int(count) - twice, **kept, **named(COMPONENTS))(x)
    x = Remainders(twice, **steps, **named(CODES))(x)
    x = SimulatedQuantisation(**steps, **named(SENT))(x)
    x = Remade(twice, **steps, **named(REMADE))(x)
    x = Unwhitening(COMPONENTS + suffix, values, **named(PATCHES))(x)
    return SENT + suffix, DepthToSpace(side, **named(DECODED))(x)


def coder_and_reader(model: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """Return what makes codes of images and images of codes, and the rest of a model, which reads.

    Args:
        model: Functional, such as the cloud of a chain with codes; of any other there is no coder,
            and the rest is the model itself.
    """
    names = {layer.name for layer in model.layers}
    if not {CODES, SENT, DECODED} <= names or not isinstance(model.get_layer(CODES), Remainders):
        return None, model
    decoded = model.get_layer(DECODED).output
    parts = (model.inputs[0], decoded), (decoded, model.outputs[0])
    coder, reader = (keras.Model(*ends, name=model.name) for ends in parts)
    return coder, reader
