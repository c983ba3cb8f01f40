"""What runs in the end: a DDNN, and for each tier but the last a rule and a threshold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import expect, require_inputs
from keras_ddnn.networks.batched import (
    BUCKETS,
    FEWEST_IN_PARTS,
    as_sent,
    filled_up,
    frozen,
    in_batches,
    in_parts,
    joined,
    traced,
    views,
)
from keras_ddnn.networks.cascade import Cascade, Tier, as_cascade
from keras_ddnn.rules.confidence import Gate, OffloadRule
from keras_ddnn.tasks.arrays import Numbers


@dataclass(frozen=True, eq=False)
class OffloadPolicy:
    """A DDNN that decides, sample by sample, which of its tiers answers.

    Attributes:
        model: The DDNN: a `Cascade`, or a model of `build_ddnn`.
        config: What a model of `build_ddnn` was built from; None for others.
        rule: Scores samples from what the device knows.
        score_threshold: Samples with a score at or above it are offloaded.
        class_names: One name a class; of another task, one an output, such as "quantile 0.1".
        classes: The user's labels, in which it answers; the numbers 0..k-1 by default. Where
            answers are numbers, `Numbers`, also by default.
        later: The gates of the tiers between the device and the last, in order; none of two tiers.
        reading: How a device reads image files, see `Splits.reading`; None leaves it to the device.

    Raises:
        ValueError: If there is not one name a label, not one `Gate` for each tier but the last, a
            threshold is NaN, or layers wait for the training data that give them weights.
    """

    model: keras.Model | Cascade
    config: DDNNConfig | None
    rule: OffloadRule
    score_threshold: float
    class_names: tuple[str, ...]
    classes: Classes | Numbers = field(default=None, kw_only=True)
    later: Sequence[Gate] = field(default=(), kw_only=True)
    reading: Mapping[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        network = as_cascade(self.model)
        if self.classes is None:
            reader = network.task.target_reader
            reader = reader or Classes.numbered(len(self.class_names))
            object.__setattr__(self, "classes", reader)
        count = len(self.classes)
        expect(count == len(self.class_names), "class_names", f"{count} names", self.class_names)
        network.require_started()
        tiers = network.model.output
        gates = f"a gate for each tier but the last of {', '.join(tiers)}"
        expect(len(self.gates) == len(tiers) - 1, "later", gates, f"{len(self.gates)} in all")
        others = [type(gate).__name__ for gate in self.gates if not isinstance(gate, Gate)]
        expect(not others, "later", "a Gate for each of these tiers", ", ".join(others))

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gate of each tier but the last, the device's first."""
        return (Gate(self.rule, self.score_threshold), *self.later)

    @cached_property
    def cascade(self) -> Cascade:
        """The DDNN as a cascade, normalisation folded."""
        return as_cascade(self.model).folded()

    @cached_property
    def _halves(self) -> tuple[keras.Model, keras.Model]:
        return self.cascade.halves()

    @property
    def local_model(self) -> keras.Model:
        """The device's half, normalisation folded; see `split_ddnn`."""
        return self._halves[0]

    @property
    def cloud_model(self) -> keras.Model:
        """The cloud's half, normalisation folded; see `split_ddnn`."""
        return self._halves[1]

    def decide(self, images: np.ndarray) -> np.ndarray:
        """Return whether to offload each of the uint8 images (n, h, w, c), bool of shape (n,).

        Only the local network and the rule are run. n is at least 1, or ValueError is raised.
        """
        return self.gates[0].sends_on(self._edge([*self._ask_device(images)], images))

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Answer about uint8 images (n, h, w, c), or what else the network reads.

        The cloud network sees the offloaded ones alone.

        Returns:
            The user's labels, integers or strings of shape (n,), with None for no answer where the
            task may refuse one, or numbers, float64 (n,); and whether each came from behind the
            device, bool (n,).

        Raises:
            ValueError: If the images are of another shape or type than the model's, or none.
        """
        answers, tiers = self.route(images)
        return self.classes.decode(answers, self.cascade.task.refusal), tiers > 0

    def route(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the task's answer to each image, and the place of the tier that said it.

        The answer is a class number, int (n,), or a number, float64 (n,); see `Task.answers`.

        The place, int8 (n,), is 0 for the device. A tier sees the samples alone that all tiers
        before it have sent on. Arguments and errors are those of `predict`.
        """
        batches = list(self._ask_device(images))
        known, answers_of = self._edge(batches, images), self.cascade.task.answers
        answers, places = answers_of(known.outputs), np.zeros(len(images), np.int8)
        samples = np.arange(len(images))
        # The samples of each batch, and what the tier hands on of them, filled up.
        held = [(samples[rows], features) for rows, (_, features) in batches]
        for place, (gate, step) in enumerate(zip(self.gates, self._steps, strict=True), start=1):
            ends = np.cumsum([len(batch) for batch, _ in held])[:-1]
            sent_on = gate.sends_on(known)
            earlier = tuple(outputs[sent_on] for outputs in (*known.earlier, known.outputs))
            said = [
                (batch[sent], *_ask(step, features, np.flatnonzero(sent)))
                for (batch, features), sent in zip(held, np.split(sent_on, ends))
                if sent.any()
            ]
            if not said:
                break
            for batch, outputs, *_ in said:
                answers[batch], places[batch] = answers_of(outputs), place
            if place < len(self.gates):
                held = [(batch, features) for batch, _, features in said]
                known = TierOutputs(
                    np.concatenate([outputs for _, outputs, _ in said]),
                    np.concatenate([features[: len(batch)] for batch, _, features in said]),
                    earlier=earlier,
                    task=self.cascade.task,
                )
        return answers, places

    def _edge(
        self, batches: list[tuple[slice, list[tf.Tensor]]], images: np.ndarray
    ) -> TierOutputs:
        if len(images) > BUCKETS[-1]:
            said = joined(batches, len(images))
        else:
            # To copy the features of a single batch takes as long as a tenth of the cloud's half.
            ((rows, outputs),) = batches
            said = views(rows, outputs)
        return TierOutputs(*said, images, self._mirrored(images), task=self.cascade.task)

    def _mirrored(self, images: np.ndarray) -> np.ndarray | None:
        """Return what the device answers to the mirrored images; None if it looks once."""
        if not self.cascade.second_look:
            return None
        batches = self._ask_device(np.ascontiguousarray(images[:, :, ::-1]))
        return joined(((rows, said[:1]) for rows, said in batches), len(images))[0]

    def _ask_device(self, images: np.ndarray) -> Iterator[tuple[slice, list[tf.Tensor]]]:
        """Yield the rows of each batch, and its logits and features as tensors, filled up."""
        read = self.cascade.tiers[0].model.input
        require_inputs(images, read.shape[1:], read.dtype)

        def step(batch: tf.Tensor) -> list[tf.Tensor]:
            many = len(batch) >= FEWEST_IN_PARTS
            return (self._local_step_in_parts if many else self._local_step)(batch)

        return in_batches(step, images, BUCKETS)

    # Trace once per shape; tracing is slower than most batches.

    @cached_property
    def _local_step(self) -> Any:
        return traced(_run(self.cascade.tiers[0]), self.cascade.tiers[0].model.input)

    @cached_property
    def _local_step_in_parts(self) -> Any:
        device = self.cascade.tiers[0]
        return traced(in_parts(_run(device), (tf.float32, device.sent_dtype)), device.model.input)

    @cached_property
    def _steps(self) -> list[Any]:
        """What runs each tier behind the device on what the tier before it sends."""
        tiers = self.cascade.tiers
        return [
            traced(_run(tier), tier.model.input, before.sent_dtype)
            for before, tier in pairwise(tiers)
        ]


def _run(tier: Tier) -> Any:
    """Return a tier's call: what it reads → its outputs, and what it sends if it sends."""
    call, dtype = frozen(tier.model), tier.sent_dtype
    return lambda read: as_sent(call(read), dtype)


def _ask(step: Any, features: tf.Tensor, rows: np.ndarray) -> tuple[Any, ...]:
    """Run a tier on some rows, int (m,), of what was sent.

    Returns:
        Its outputs as an array (m, ...), and what it sends, if it does, as a tensor, filled up.
    """
    chosen = filled_up(rows, BUCKETS)
    if len(chosen) == len(features):  # as much work, and nothing is gathered
        outputs, *sent = step(features)
        return outputs.numpy()[rows], *(tf.gather(tensor, rows) for tensor in sent)
    outputs, *sent = step(tf.gather(features, chosen))
    return outputs.numpy()[: len(rows)], *sent
