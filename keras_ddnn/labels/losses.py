"""The losses an offload head can learn by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeadLoss:
    """A loss of `keras.losses`.

    Attributes:
        keras_class: Its name.
        from_logits: Whether it reads logits of a label, and not numbers of any size.
        balanced: Whether easy and hard samples weigh the same in total, whatever L0 is.
    """

    keras_class: str
    from_logits: bool = True
    balanced: bool = False


LOSSES = {
    "bce": HeadLoss("BinaryCrossentropy"),
    "weighted_bce": HeadLoss("BinaryCrossentropy", balanced=True),
    # Lin et al., "Focal Loss for Dense Object Detection", 2017, with its γ = 2.
    "focal": HeadLoss("BinaryFocalCrossentropy"),
    "mse": HeadLoss("MeanSquaredError", from_logits=False),
    "huber": HeadLoss("Huber", from_logits=False),
}
