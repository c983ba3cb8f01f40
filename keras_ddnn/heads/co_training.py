"""An offload head trained together with its DDNN."""

from dataclasses import replace
from typing import Any

import keras

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.classes import class_numbers
from keras_ddnn.data.splits import Split
from keras_ddnn.heads.architectures import build_head
from keras_ddnn.heads.fit import HeadRule, fit_head
from keras_ddnn.labels.sources import Banks
from keras_ddnn.training.capture import capture


class CoTrainedHead(keras.callbacks.Callback):
    """Trains an offload head together with its DDNN, an epoch after each epoch of the DDNN.

    The paper proposes it as future work: the head sees the decisions of many stages of the
    training, each labelled by itself. No gradient flows from the head into the DDNN. Each epoch
    costs one more pass over the data.

    Args:
        train, val: `Split`s.
        config: A `HeadConfig`, whose labels are "final_epoch" and whose epochs do not count.
            Without a target it learns what the cloud's probabilities say, in every epoch.
        start: First epoch of the DDNN, counted from 0, after which the head is trained.

    Attributes:
        head: The head after the last epoch; None before `start`.

    Raises:
        ValueError: If the labels are not "final_epoch"; when training begins, if the splits' labels
            are no class numbers of the DDNN.
    """

    def __init__(
        self, train: Split, val: Split, config: HeadConfig | None = None, start: int = 0
    ) -> None:
        super().__init__()
        config = config or HeadConfig(labels="final_epoch")
        if config.labels != "final_epoch":
            raise ValueError(
                f"co-training labels by the epoch itself: expected labels 'final_epoch'; received "
                f"{config.labels!r}"
            )
        self.train, self.val, self.start = train, val, start
        self.config = replace(config, epochs=1, anchored=False, target=config.first_target)
        self.anchored = config.anchored
        self.head: HeadRule | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse labels that only `fit_ddnn` could read."""
        count = self.model.output["cloud"].shape[-1]
        for split in (self.train, self.val):
            class_numbers(split.labels, count, "labels of a head trained along")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Train the head for one epoch on what the DDNN says now."""
        if epoch < self.start:
            return
        bank, val_bank = (capture(self.model, s.images, s.labels) for s in (self.train, self.val))
        last = epoch == self.params["epochs"] - 1
        config = replace(
            self.config, seed=self.config.seed + epoch, anchored=self.anchored and last
        )
        self.head = fit_head(Banks(bank, val_bank), config, initial=self.head)

    def get_state(self) -> dict[str, Any]:
        """Return what a training that goes on needs of the head: its weights, and what it reads."""
        if self.head is None:
            return {}
        model = self.head.model
        return {"reads": list(model.input_shape[1:]), "weights": model.get_weights()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Make the head of such a state."""
        if state:
            model = build_head(tuple(state["reads"]), self.config)
            model.set_weights(state["weights"])
            self.head = HeadRule(model, self.config)
