"""What a device says: of samples, and of its cloud."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_ddnn.serve.edge.settings import Settings
from keras_ddnn.serve.protocol.causes import DEFERRED, Unanswered
from keras_ddnn.tasks.temperature import probabilities_at


@dataclass(frozen=True, eq=False)
class EdgeAnswer:
    """What a device says of n images.

    Attributes:
        classes: The user's labels, integers or strings of shape (n,), with None for no answer where
            the task of the artefact may refuse one; or numbers, float64 (n,), where it is of these.
        scores: Of the offload rule, float32 of shape (n,).
        offloaded: Whether the cloud was to answer, bool of shape (n,).
        causes: Why it was to and did not, so that the answer is the local network's: of
            `keras_ddnn.serve.protocol.causes.CAUSES`, str of shape (n,); empty for all others.
        seconds: From images to answer.
        logits: Of the network that answered, float32 of shape (n, num_classes); of numbers, its
            outputs, such as quantiles, (n, q).
        tiers: How many tiers behind this one that network is, int of shape (n,): 0 for the local
            one, 1 for the service that was asked, more for one that this service has asked.
        fallback_behind: Whether the service answered in place of one behind it that failed, bool of
            shape (n,).
        settings: What has decided: the threshold, and whose it is.
        temperatures: Of the logits of the tier that answered, float32 of shape (n,); None where
            outputs are no logits.
    """

    classes: np.ndarray
    scores: np.ndarray
    offloaded: np.ndarray
    causes: np.ndarray
    seconds: float
    logits: np.ndarray
    tiers: np.ndarray
    fallback_behind: np.ndarray
    settings: Settings | None = None
    temperatures: np.ndarray | None = None

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Calibrated probabilities of the classes, by the tier that answered, float32 (n, k).

        ValueError is raised where outputs are no logits.
        """
        if self.temperatures is None:
            raise ValueError(
                "probabilities: expected an artefact that answers classes; received numbers"
            )
        if self.settings:
            _ = self.settings.known_temperatures  # or it is said that they are not known
        return probabilities_at(self.logits, self.temperatures)

    @property
    def deferred(self) -> np.ndarray:
        """Whether the sample is on disk, to be sent in the background, bool of shape (n,)."""
        return self.causes == DEFERRED

    @property
    def fallback(self) -> np.ndarray:
        """Whether a tier was to answer and one before it did in its place, bool of shape (n,).

        Nothing that is deferred: of these no answer was expected.
        """
        return ((self.causes != "") & ~self.deferred) | self.fallback_behind


@dataclass(frozen=True)
class CloudCheck:
    """What one request to the cloud has found.

    Attributes:
        failure: Why there was no answer that can be used; None if there was one.
        seconds: From the request to the answer, or to giving up.
        samples: Black images that were asked about.
        sent_bytes: Length of the request's body.
    """

    failure: Unanswered | None
    seconds: float
    samples: int
    sent_bytes: int
