"""Monte-Carlo dropout: how unsure the local network is of itself, by asking it many times."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import require_choice, require_count, require_seed
from keras_ddnn.networks.batched import run_in_batches
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.layers import SimulatedQuantisation
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.tasks.classification import normalised_entropy


class MCDropout(OffloadRule):
    """Offloads where the local network, with parts of it left out at random, is unsure.

    The classifier between features and local logits runs `passes` times with its dropout on. A
    pass leaves out the same units for every sample, so that it is one thinned network, and a sample
    scores alike whatever samples it comes with, today and on the device. The masks depend on `seed`
    alone: no other random state is read or moved. The weights are the model's own, as they are
    when scores are asked for.

    Sources: Gal & Ghahramani, "Dropout as a Bayesian Approximation", 2016; one mask a pass:
    Kirsch et al., "BatchBALD", 2019.

    Args:
        model: A DDNN of `build_ddnn` with `local_dropout` above 0 and without a bottleneck, past
            which its local classifier reads; see `DDNNConfig`.
        passes: How many thinned networks are asked.
        measure: A key of `MEASURES`.
        seed: Seed of the masks.

    Attributes:
        multiply_adds: Those of the classifier, `passes` times; the local convolution, which the
            device has computed already, is not repeated.

    Raises:
        ValueError: If the local classifier has no dropout or does not read the features, or an
            argument lies outside its range.
    """

    fits_graph = False
    needs = ("probabilities", "features")

    def __init__(
        self, model: keras.Model, passes: int = 20, measure: str = "entropy", seed: int = 0
    ) -> None:
        require_count(passes=passes)
        require_choice("measure", measure, MEASURES)
        require_seed("seed", seed)
        if isinstance(model.get_layer("features"), SimulatedQuantisation):
            raise ValueError(
                "MCDropout expects a local classifier that reads the features, a DDNN built with "
                "bottleneck=None; received one whose features are a bottleneck"
            )
        classifier = keras.Model(
            model.get_layer("features").output, model.get_layer("local").output
        )
        rates = [layer.rate for layer in classifier.layers if _is_dropout(layer)]
        if not rates or not all(0 < rate < 1 for rate in rates):
            raise ValueError(
                "MCDropout expects dropout in the local classifier, a DDNN built with "
                f"0 < local_dropout < 1; received dropout rates {rates} between features and local"
            )
        self.classifier = classifier
        self.passes = passes
        self.measure = measure
        self.seed = seed
        self.multiply_adds = passes * multiply_adds(classifier)

    def score(self, edge: TierOutputs) -> np.ndarray:
        """Return the measure of the passes over `edge.features`, in [0, 1], of shape (n,)."""
        edge.require("probabilities", "MCDropout")
        features = edge.require("features", "MCDropout")
        (logits,) = run_in_batches(self._ask, features)
        return MEASURES[self.measure](softmax(logits.astype(np.float64), axis=2))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor but the model, as plain JSON."""
        return {"passes": self.passes, "measure": self.measure, "seed": self.seed}

    @classmethod
    def load(
        cls, description: Mapping[str, Any], folder: Path, model: keras.Model | None = None
    ) -> "MCDropout":
        """Return the rule that `get_config` has described, of this model; raises as `MCDropout`."""
        return cls(model, **description)

    def _ask(self, features: tf.Tensor) -> tuple[tf.Tensor]:
        """Return the logits of every pass over a batch, float32 of (n, passes, num_classes)."""
        logits = tf.map_fn(
            lambda number: self._thinned(features, number),
            tf.range(self.passes, dtype=tf.int64),
            fn_output_signature=tf.float32,
        )
        return (tf.transpose(logits, (1, 0, 2)),)

    def _thinned(self, x: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Run the layers, which are a chain, without the units that pass `number` leaves out."""
        for place, layer in enumerate(self.classifier.layers[1:]):
            if _is_dropout(layer):
                x = tf.nn.experimental.stateless_dropout(
                    x,
                    layer.rate,
                    # Two layers of a pass, and two passes of a layer, share no mask.
                    seed=tf.stack([self.seed, number * len(self.classifier.layers) + place]),
                    noise_shape=(1, *x.shape[1:]),
                )
            else:
                x = layer(x, training=False)
        return x


def _is_dropout(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dropout)


def entropy_of_mean(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of the mean probabilities over log num_classes: all that is uncertain."""
    return normalised_entropy(probabilities.mean(axis=1))


def mutual_information(probabilities: np.ndarray) -> np.ndarray:
    """That entropy less the mean entropy of the passes: uncertain because the passes disagree.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
    2011.
    """
    n, passes, num_classes = probabilities.shape
    each = normalised_entropy(probabilities.reshape(-1, num_classes)).reshape(n, passes)
    # It cannot be negative, but for the last digit of the difference.
    return np.maximum(entropy_of_mean(probabilities) - each.mean(axis=1), 0.0)


# probabilities (n, passes, num_classes) -> score (n,), in [0, 1]
MEASURES = {"entropy": entropy_of_mean, "mutual_information": mutual_information}
