"""Monte-Carlo dropout: how unsure the local network is of itself, by asking it many times."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import require_count, require_seed
from keras_ddnn.heads.ensemble import EnsembleRule
from keras_ddnn.networks.batched import run_in_batches
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.costs.trace import Trace
from keras_ddnn.networks.layers import SimulatedQuantisation


class MCDropout(EnsembleRule):
    """Offloads where the local network, with parts of it left out at random, is unsure.

    What lies between features and local outputs, the classifier of the paper's network and in a
    chain the whole local network, runs `passes` times with its dropout on. A pass leaves out the
    same units for every sample, so that it is one thinned network, and a sample scores alike
    whatever samples it comes with, today and on the device. The masks depend on `seed` alone: no
    other random state is read or moved. The weights are the model's own, as they are when scores
    are asked for.

    Sources: Gal & Ghahramani, "Dropout as a Bayesian Approximation", 2016; one mask a pass:
    Kirsch et al., "BatchBALD", 2019.

    Args:
        model: A DDNN of `build_ddnn` with `local_dropout` above 0 and without a bottleneck, past
            which its local classifier reads, see `DDNNConfig`; or a cascade with dropout there,
            such as a chain whose local network is one of `SeriesOptions(dropout=0.1)`.
        passes: How many thinned networks are asked.
        measure: A key of `MEASURES`: for numbers "deviation".
        seed: Seed of the masks.

    Attributes:
        multiply_adds: Those of the classifier, `passes` times; the local convolution of the paper's
            network, which the device has computed already, is not repeated.

    Raises:
        ValueError: If the local classifier has no dropout or does not read the features, or an
            argument lies outside its range.
    """

    reads = "features"

    def __init__(
        self,
        model: keras.Model | Cascade,
        passes: int = 20,
        measure: str = "entropy",
        seed: int = 0,
    ) -> None:
        super().__init__(measure)
        require_count(passes=passes)
        require_seed("seed", seed)
        cascade = as_cascade(model)
        read, local = cascade.model.get_layer(cascade.sent[0]), next(iter(cascade.model.output))
        if isinstance(read, SimulatedQuantisation):
            raise ValueError(
                "MCDropout expects a local classifier that reads the features, a DDNN built with "
                "bottleneck=None; received one whose features are a bottleneck"
            )
        classifier = keras.Model(read.output, cascade.model.output[local])
        trace = Trace.of(classifier)
        rates = [step.operation.rate for step in trace.steps if _is_dropout(step.operation)]
        if not rates or not all(0 < rate < 1 for rate in rates):
            raise ValueError(
                "MCDropout expects dropout in the local classifier, a DDNN built with "
                f"0 < local_dropout < 1; received dropout rates {rates} between features and local"
            )
        self.classifier = classifier
        self.passes = passes
        self.seed = seed
        self.multiply_adds = passes * multiply_adds(classifier)
        self._trace = trace

    def outputs(self, edge: TierOutputs) -> np.ndarray:
        """Return what each pass says of `edge.features`."""
        return run_in_batches(self._ask, edge.require("features", "MCDropout"))[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor but the model, as plain JSON."""
        return {"passes": self.passes, "measure": self.measure, "seed": self.seed}

    @classmethod
    def load(
        cls,
        description: Mapping[str, Any],
        folder: Path,
        model: keras.Model | Cascade | None = None,
    ) -> "MCDropout":
        """Return the rule that `get_config` has described, of this model; raises as `MCDropout`."""
        return cls(model, **description)

    def _ask(self, features: tf.Tensor) -> tuple[tf.Tensor]:
        """Return the outputs of every pass over a batch, float32 of (n, passes, columns)."""
        outputs = tf.map_fn(
            lambda number: self._thinned(features, number),
            tf.range(self.passes, dtype=tf.int64),
            fn_output_signature=tf.float32,
        )
        return (tf.transpose(outputs, (1, 0, 2)),)

    def _thinned(self, features: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """Run the classifier without the units that pass `number` leaves out."""

        def call(place: int, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            if _is_dropout(operation):
                # Two layers of a pass, and two passes of a layer, share no mask.
                seed = tf.stack([self.seed, number * (len(self._trace.steps) + 1) + place])
                shape = (1, *args[0].shape[1:])
                return tf.nn.experimental.stateless_dropout(
                    args[0], operation.rate, seed=seed, noise_shape=shape
                )
            inference = {"training": False} if isinstance(operation, keras.layers.Layer) else {}
            return operation(*args, **(kwargs | inference))

        return self._trace.run([features], call)[0]


def _is_dropout(layer: keras.Operation) -> bool:
    """Return whether a layer leaves out single values; whole maps are left in, as in use."""
    of_maps = (getattr(keras.layers, f"SpatialDropout{rank}D") for rank in (1, 2, 3))
    return isinstance(layer, keras.layers.Dropout) and not isinstance(layer, tuple(of_maps))
