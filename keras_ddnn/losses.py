"""The losses an offload head can learn from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadLoss:
    """A loss on the labels easy (0) and hard (1).

    Attributes:
        keras_class: Name of a class in `keras.losses` that takes `from_logits=True`.
        balanced: Whether both labels weigh the same in total, whatever L0 is.
    """

    keras_class: str
    balanced: bool = False


LOSSES = {
    "bce": HeadLoss("BinaryCrossentropy"),
    "weighted_bce": HeadLoss("BinaryCrossentropy", balanced=True),
    # Lin et al., "Focal Loss for Dense Object Detection", 2017, with its γ = 2.
    "focal": HeadLoss("BinaryFocalCrossentropy"),
}
