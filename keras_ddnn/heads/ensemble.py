"""Ensembles: how unsure a device is, by how much several networks differ about a sample."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import expect, require_choice
from keras_ddnn.networks.batched import run_in_batches
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.inputs_and_exits import functional, require_logits
from keras_ddnn.networks.wiring import as_functional
from keras_ddnn.rules.confidence import OffloadRule
from keras_ddnn.tasks.classification import normalised_entropy
from keras_ddnn.tasks.task import Task


def entropy_of_mean(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of the mean probabilities over log num_classes: all that is uncertain."""
    return normalised_entropy(probabilities.mean(axis=1))


def mutual_information(probabilities: np.ndarray) -> np.ndarray:
    """That entropy less the mean entropy of the members: uncertain because they disagree.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
    2011.
    """
    n, members, num_classes = probabilities.shape
    each = normalised_entropy(probabilities.reshape(-1, num_classes)).reshape(n, members)
    # It cannot be negative, but for the last digit of the difference.
    return np.maximum(entropy_of_mean(probabilities) - each.mean(axis=1), 0.0)


def deviation(numbers: np.ndarray) -> np.ndarray:
    """Standard deviation of the members' numbers, in their unit: of two, half their distance.

    The model uncertainty of a regression in Gal & Ghahramani, "Dropout as a Bayesian
    Approximation", 2016.
    """
    return numbers[..., 0].std(axis=1)


@dataclass(frozen=True)
class EnsembleMeasure:
    """How unsure an ensemble is, of what its members say.

    Attributes:
        needs: What it reads of each member, "probabilities" or "numbers"; see `Task.gives`.
        of: What is read, float64 (n, members, columns) → score (n,): higher is less sure.
    """

    needs: str
    of: Callable[[np.ndarray], np.ndarray]


MEASURES = {
    "entropy": EnsembleMeasure("probabilities", entropy_of_mean),  # in [0, 1]
    "mutual_information": EnsembleMeasure("probabilities", mutual_information),  # in [0, 1]
    "deviation": EnsembleMeasure("numbers", deviation),  # at least 0
}


def measures_of(task: Task) -> tuple[str, ...]:
    """Return the names of the measures that outputs of a task allow."""
    return tuple(name for name, measure in MEASURES.items() if measure.needs in task.gives)


class EnsembleRule(OffloadRule):
    """Offloads where the members of an ensemble, asked about the same sample, leave it unsure.

    Args:
        measure: A key of `MEASURES`.

    Raises:
        ValueError: If there is no such measure.
    """

    fits_graph = False
    reads: str  # of a tier: what its members read

    def __init__(self, measure: str) -> None:
        require_choice("measure", measure, MEASURES)
        self.measure = measure
        self.needs = (MEASURES[measure].needs, self.reads)

    @abstractmethod
    def outputs(self, edge: TierOutputs) -> np.ndarray:
        """Return what every member says of n samples, float32 of (n, members, columns)."""

    def score(self, edge: TierOutputs) -> np.ndarray:
        """Return the measure of the members, of shape (n,).

        Raises:
            ValueError: In one line, if the task gives nothing that the measure reads, or the tier
                has not what the members read.
        """
        for need in self.needs:
            edge.require(need, f"{type(self).__name__} of measure {self.measure!r}")
        said, measure = self.outputs(edge), MEASURES[self.measure]
        n, members, columns = said.shape
        each = edge.task.distribution(said.reshape(-1, columns), np, edge.precision)
        return measure.of(getattr(each, measure.needs).reshape(n, members, -1))


class Ensemble(EnsembleRule):
    """Offloads where the device's network and others of its kind differ.

    The others are trained alone, from other initial weights; the answer stays that of the device's
    own network. A device would run all of them, so an ensemble has no artefact: it ranks samples
    where all networks are in memory.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles", 2017.

    Args:
        others: Keras models of what the device reads → outputs as those of its network, one or
            more; or one alone.
        measure: A key of `MEASURES`: for numbers "deviation".

    Attributes:
        multiply_adds: Those of the others, which the device runs beside its own network; None if
            they are not known.

    Raises:
        ValueError: If there is no other network, one is no model of one input and one output, there
            is no such measure, or it reads probabilities and a network ends with a softmax or
            another activation: all are asked for logits.
    """

    reads = "inputs"

    def __init__(
        self, others: keras.Model | Sequence[keras.Model], measure: str = "entropy"
    ) -> None:
        super().__init__(measure)
        members = tuple(others) if isinstance(others, Sequence) else (others,)
        wrong = [type(other).__name__ for other in members if not isinstance(other, keras.Model)]
        wanted = "one network or more beside the device's, as Keras models"
        expect(members and not wrong, "an Ensemble", wanted, ", ".join(wrong) or "none")
        for network in members:
            whole = functional(network, as_functional(network).outputs[0].shape[-1])
            if "probabilities" in self.needs:
                require_logits(whole)
        self.others = members
        each = [multiply_adds(network) for network in self.others]
        self.multiply_adds = None if None in each else sum(each)

    def get_config(self) -> dict[str, Any]:
        """Raise ValueError: plain JSON holds no networks, and an artefact those of a device alone.

        An artefact, by which a rule is deployed, keeps confidence rules, heads and `MCDropout`.
        """
        raise ValueError(
            "an Ensemble cannot be saved or deployed, as an artefact keeps no further networks: "
            "deploy a rule of the device's own, such as SecondLook, MCDropout or a head"
        )

    def outputs(self, edge: TierOutputs) -> np.ndarray:
        """Return what the device's network and the others say, its own first."""
        said = run_in_batches(self._ask, edge.require("inputs", "Ensemble"))
        shapes = [member.shape for member in (edge.outputs, *said)]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"the networks of an Ensemble must have outputs of one shape; received {shapes}"
            )
        return np.stack([edge.outputs, *said], axis=1)

    def _ask(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(network(inputs, training=False), tf.float32) for network in self.others]
