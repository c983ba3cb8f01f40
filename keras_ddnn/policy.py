"""What runs in the end: a DDNN, a rule and a threshold."""

from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from keras_ddnn.capture import capture, capture_edge
from keras_ddnn.config import DDNNConfig
from keras_ddnn.models import split_ddnn
from keras_ddnn.rules import OffloadRule


@dataclass(frozen=True, eq=False)
class OffloadPolicy:
    """A DDNN that decides, sample by sample, which of its two networks answers.

    Attributes:
        model: The DDNN; see `build_ddnn`.
        config: What it was built from.
        rule: Scores samples from what the device knows.
        score_threshold: Samples with a score at or above it are offloaded.
        class_names: One name a class.
    """

    model: keras.Model
    config: DDNNConfig
    rule: OffloadRule
    score_threshold: float
    class_names: tuple[str, ...]

    @cached_property
    def local_model(self) -> keras.Model:
        """The device's half; see `split_ddnn`."""
        return split_ddnn(self.model)[0]

    def decide(self, images: np.ndarray) -> np.ndarray:
        """Return whether to offload each of the uint8 images (n, h, w, c), bool of shape (n,).

        Only the local network and the rule are run.
        """
        return self.rule.score(capture_edge(self.local_model, images)) >= self.score_threshold

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classify uint8 images (n, h, w, c).

        Returns:
            Class numbers, int64 of shape (n,), and whether each came from the cloud, bool (n,).
        """
        bank = capture(self.model, images, labels=np.zeros(len(images), np.int64))
        offloaded = self.rule.score(bank.edge) >= self.score_threshold
        local, cloud = bank.edge.local_logits.argmax(axis=1), bank.cloud_logits.argmax(axis=1)
        return np.where(offloaded, cloud, local), offloaded
