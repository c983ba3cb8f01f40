"""Codes of patches: what a device can send of any image in place of its pixels."""

import keras
import tensorflow as tf
from keras import layers

from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.files.checks import expect
from keras_ddnn.networks.layers import DepthToSpace, SimulatedQuantisation, Unwhitening, Whitening

PATCH = 4  # side of a patch, pixels
# Names of the layers that make codes, and round them.
COMPONENTS, CODES, SENT = "components", "codes", "rounded_codes"
DECODED = "decoded"  # the layer that makes images of them
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


def code_patches(images: keras.KerasTensor, count: int) -> tuple[str, keras.KerasTensor]:
    """Return which layer's output is sent of images, and the images that are made of it.

    A patch of 4×4 pixels becomes its first principal components, each of variance 1 and rounded to
    four bits. A sixth of the codes tell what that rounding leaves of the components of largest
    variance, which would otherwise be most of the error. 64 patches of an image of 32×32 pixels and
    24 codes take 768 bytes. The layers there and back take their weights from the first data the
    network is trained on, and keep them.

    Args:
        images: uint8 (n, h, w, c), sides whole patches.
        count: Codes of a patch, an even number, as two make a byte; at most 16·c.

    Returns:
        Name of the layer that makes the values of the codes, (n, h/4, w/4, count); and float32
            images (n, h, w, c) of about 0 to 255.

    Raises:
        ValueError: If there are no images, or another number of codes.
    """
    shape = tuple(images.shape[1:])
    whole = len(shape) == 3 and not any(side is None or side % PATCH for side in shape[:2])
    expect(
        whole and images.dtype == "uint8",
        "what is sent as codes",
        f"uint8 images whose sides are multiples of {PATCH} pixels",
        f"{images.dtype} of shape {shape}",
    )
    values = PATCH * PATCH * shape[2]
    fits = isinstance(count, int) and 2 <= count <= values and count % 2 == 0
    expect(fits, "codes of a patch", f"an even number of 2 to {values}", repr(count))
    given = {"dtype": "float32"}
    x = layers.Rescaling(1.0, name="pixels", **given)(images)
    twice, steps = count // TWICE, BOTTLENECK_CODES.as_json()
    kept = {"opposites": False, "strides": PATCH, "name": COMPONENTS}
    x = Whitening(PATCH, count - twice, **kept, **given)(x)
    x = Remainders(twice, **steps, name=CODES, **given)(x)
    x = SimulatedQuantisation(**steps, name=SENT, **given)(x)
    x = Remade(twice, **steps, name="remade", **given)(x)
    x = Unwhitening(COMPONENTS, values, name="patches", **given)(x)
    return SENT, DepthToSpace(PATCH, name=DECODED, **given)(x)


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
