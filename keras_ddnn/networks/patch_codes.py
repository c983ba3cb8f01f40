"""Codes of patches: what a device can send of any image in place of its pixels."""

import keras
from keras import layers

from keras_ddnn.data.quantisation import BOTTLENECK_CODES
from keras_ddnn.files.checks import expect
from keras_ddnn.networks.layers import DepthToSpace, SimulatedQuantisation, Unwhitening, Whitening

PATCH = 4  # side of a patch, pixels
CODES, SENT = "codes", "features"  # names of the layers that make them, and round them


def code_patches(images: keras.KerasTensor, count: int) -> tuple[str, keras.KerasTensor]:
    """Return which layer's output is sent of images, and the images that are made of it.

    A patch of 4×4 pixels becomes its first principal components, each of variance 1 and rounded to
    four bits: 64 patches of an image of 32×32 pixels and 24 codes take 768 bytes. Both layers take
    their weights from the first data the network is trained on, and keep them.

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
    x = Whitening(PATCH, count, opposites=False, strides=PATCH, name=CODES, **given)(x)
    x = SimulatedQuantisation(**BOTTLENECK_CODES.as_json(), name=SENT, **given)(x)
    x = Unwhitening(CODES, values, name="patches", **given)(x)
    return SENT, DepthToSpace(PATCH, name="decoded", **given)(x)
