"""What a device says: of samples, and of its cloud."""

from dataclasses import dataclass

import numpy as np

from keras_ddnn.serve.protocol.causes import Unanswered


@dataclass(frozen=True, eq=False)
class EdgeAnswer:
    """What a device says of n images.

    Attributes:
        classes: The user's labels, integers or strings of shape (n,).
        scores: Of the offload rule, float32 of shape (n,).
        offloaded: Whether the cloud was to answer, bool of shape (n,).
        causes: Why it was to and did not, so that the class is the local network's: of
            `keras_ddnn.serve.protocol.causes.CAUSES`, str of shape (n,); empty for all others.
        seconds: From images to answer.
    """

    classes: np.ndarray
    scores: np.ndarray
    offloaded: np.ndarray
    causes: np.ndarray
    seconds: float

    @property
    def fallback(self) -> np.ndarray:
        """Whether the cloud was to answer and did not, bool of shape (n,)."""
        return self.causes != ""


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
