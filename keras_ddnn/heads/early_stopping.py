"""When the training of a head ends, and which of its epochs is kept."""

import numpy as np

from keras_ddnn.config.head import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.labels.targets import TARGETS


class EarlyStopping:
    """Keeps the epoch of highest AUDC on validation samples, and waits so many epochs for a better.

    Args:
        config: Configuration of the head; `patience` is the number of epochs to wait.
        val_bank: Bank of the validation samples.
    """

    def __init__(self, config: HeadConfig, val_bank: Bank):
        self.config, self.val_bank = config, val_bank
        self.best, self.waited = -np.inf, 0

    @property
    def running(self) -> bool:
        """Whether to train for another epoch."""
        return self.waited < self.config.patience

    def audc(self, outputs: np.ndarray) -> float:
        """Return the AUDC of the outputs (n, units) of a head on the validation samples."""
        scores = TARGETS[self.config.first_target].score(outputs, np)
        return OffloadCurve.from_scores(scores, self.val_bank).audc

    def is_best(self, audc: float) -> bool:
        """Count an epoch, and return whether it is better than all before."""
        better = audc > self.best
        self.best = audc if better else self.best
        self.waited = 0 if better else self.waited + 1
        return better
