"""What the tiers of a cascade said of a set of samples, and the truth."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np

from keras_ddnn.data.gate_costs import GateCosts, right_answers
from keras_ddnn.data.outputs import TIERS, checked_outputs
from keras_ddnn.data.rows.mapped import indexed, mapped_array
from keras_ddnn.data.rows.view import Array
from keras_ddnn.data.tier_outputs import FEATURES, LOGITS, MIRRORED, TierOutputs
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.checks import require_choice
from keras_ddnn.files.records import LEFT_OUT, fill
from keras_ddnn.tasks.arrays import as_rows
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.known import task_as_json, task_from_json
from keras_ddnn.tasks.task import Task

LOCAL, CLOUD = TIERS  # the first and the last tier


@dataclass(frozen=True, eq=False)
class Bank:
    """What the tiers said of n samples, and the truth: the material of labels and evaluation.

    Features are made when something reads them, and inputs are shared with their split.

    Attributes:
        tiers: Name → what that tier knows, in the order in which a sample passes them. The first is
            the device, which has the inputs; the last sends nothing.
        targets: The truth, of shape (n,): for classes int64, for numbers float64.
        task: What the outputs are; that of the first tier by default.
        index: int64 of shape (n,): the place of each sample in the split it was captured from.
        paid: See `GateCosts.paid`, 1 by default; it is not kept in files.
    """

    tiers: Mapping[str, TierOutputs]
    targets: np.ndarray
    task: Task = LEFT_OUT
    index: np.ndarray = LEFT_OUT
    paid: np.ndarray = LEFT_OUT

    def __post_init__(self) -> None:
        n = len(self.targets)
        fill(self, task=self.edge.task, index=np.arange(n), paid=np.ones(n))
        if any(tier.task is not self.task for tier in self.tiers.values()):
            tiers = {name: replace(tier, task=self.task) for name, tier in self.tiers.items()}
            object.__setattr__(self, "tiers", tiers)

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def from_outputs(
        cls,
        outputs: Mapping[str, Any],
        labels: Any,
        features: Any = None,
        inputs: Any = None,
        *,
        mirrored: Any = None,
        task: Task = CLASSIFICATION,
    ) -> "Bank":
        """Make a bank of the outputs of two networks, or more, on the same n samples.

        The arrays may come from any framework whose arrays NumPy reads. No sample may have trained
        any of the networks: their outputs on training data are biased.

        Args:
            outputs: Tier → logits, float16, float32 or float64 of shape (n, num_classes): "local",
                "cloud", others between. Logarithms of probabilities are logits. Of a `Regression`
                numbers of shape (n,), or a column a quantile.
            labels: Integers 0..num_classes-1 of shape (n,); for a `Regression` numbers.
            features: What the device could send, of n rows, for heads that read it.
            inputs: What the device sees, of n rows, for heads that read images.
            mirrored: What the local network says of the mirrored images, as `outputs`.
            task: What the outputs are: classes, or a `Regression`.

        Returns:
            The bank; outputs are float32.

        Raises:
            ValueError: If an array is not of its type and shape, logits are not finite or are
                probabilities, or the lengths or classes of two arrays differ.
        """
        given = outputs if mirrored is None else {**outputs, MIRRORED: mirrored}
        checked, targets = checked_outputs(given, labels, task)
        second, n = checked.pop(MIRRORED, None), len(targets)
        tiers = {name: TierOutputs(array) for name, array in checked.items()}
        tiers[LOCAL] = TierOutputs(
            checked[LOCAL], as_rows(features, n, "features"), as_rows(inputs, n, "inputs"), second
        )
        return cls(tiers, targets, task)

    @property
    def edge(self) -> TierOutputs:
        """The first tier: all that an `OffloadRule` of the device sees."""
        return next(iter(self.tiers.values()))

    @property
    def _last(self) -> TierOutputs:
        *_, last = self.tiers.values()
        return last

    @property
    def cloud_logits(self) -> np.ndarray:
        """Outputs of the last tier, for classes float32 of shape (n, num_classes)."""
        return self._last.outputs

    @property
    def labels(self) -> np.ndarray:
        """The targets, where they are class numbers, int64 of shape (n,)."""
        return self.targets

    @property
    def strata(self) -> np.ndarray:
        """Group of each sample that folds share out evenly, int64 (n,): its class."""
        return self.task.strata(self.targets)

    def rows(self, rows: np.ndarray | slice) -> "Bank":
        """Return the bank of some of its rows, int (m,) or a slice, in that order."""
        tiers = {name: tier.rows(rows) for name, tier in self.tiers.items()}
        kept = {name: getattr(self, name)[rows] for name in ("targets", "index", "paid")}
        return replace(self, tiers=tiers, **kept)

    def with_outputs(self, outputs: Mapping[str, np.ndarray]) -> "Bank":
        """Return the same samples with other outputs, tier → array (n, ...), of a first look."""
        kept = ((name, replace(t, outputs=outputs[name])) for name, t in self.tiers.items())
        return replace(self, tiers={name: replace(tier, mirrored=None) for name, tier in kept})

    def with_features(self, features: Array | None) -> "Bank":
        """Return the same samples with these features (n, ...) of the first tier."""
        first, edge = next(iter(self.tiers.items()))
        return replace(self, tiers={**self.tiers, first: replace(edge, features=features)})

    def at(self, tier: str) -> TierOutputs:
        """Return what a rule at a tier may see: what the tier knows, and what those before it said.

        Raises:
            ValueError: If there is no tier of that name.
        """
        require_choice("tier", tier, self.tiers)
        before = takewhile(lambda name: name != tier, self.tiers)
        earlier = tuple(self.tiers[name].outputs for name in before)
        return replace(self.tiers[tier], earlier=earlier) if earlier else self.tiers[tier]

    def gate(self, tier: str, sent_on: Sequence[np.ndarray] = ()) -> "Bank":
        """Return the bank of two ends that one gate of a longer chain sees.

        Once the gates behind it are fixed, a sample that is sent on has one answer: that of the
        tier where it ends. So the gate of each tier is that of a chain of two, and whatever takes a
        bank of two tiers takes this one.

        Args:
            tier: Whose gate.
            sent_on: For each gate behind it, in order, which samples it sends on, bool (n,).

        Raises:
            ValueError: If there is no gate of that name, or not one decision for each gate behind.
        """
        names = list(self.tiers)
        require_choice("gate", tier, names[:-1])
        behind = names[names.index(tier) + 1 :]
        if len(sent_on) != len(behind) - 1:
            raise ValueError(
                f"the gate of {tier!r} has {len(behind) - 1} gates behind it; received the "
                f"decisions of {len(sent_on)}: give one bool array for each, in order"
            )
        outputs = self.tiers[behind[-1]].outputs
        for name, sent in reversed([*zip(behind, sent_on)]):
            outputs = np.where(sent[:, None], outputs, self.tiers[name].outputs)
        return replace(self, tiers={tier: self.at(tier), behind[-1]: TierOutputs(outputs)})

    def costs(self, cost: str | None = None) -> np.ndarray:
        """Return what the answer of each tier costs, float64 of shape (n, tiers).

        Args:
            cost: A cost of the task, by default the one it reports. Lower is better.

        Raises:
            ValueError: If the task has no such cost.
        """
        cost = cost or self.task.reported
        require_choice("cost", cost, self.task.costs)
        measure = self.task.costs[cost]
        columns = [measure(tier.outputs, self.targets) for tier in self.tiers.values()]
        return np.stack(columns, axis=1)

    def gate_costs(self, cost: str | None = None) -> GateCosts:
        """Return what each sample costs if the first tier answers, or the last; see `costs`."""
        if cost in (None, self.task.reported):
            return self._reported
        costs = self.costs(cost)
        return GateCosts(costs[:, 0], costs[:, -1], measure=self.task.measure, paid=self.paid)

    @cached_property
    def _reported(self) -> GateCosts:
        costs, task = self.costs(), self.task
        differ = task.differ(self.edge.outputs, self._last.outputs)
        differ = LEFT_OUT if differ is None else differ
        return GateCosts(costs[:, 0], costs[:, -1], differ, task.bound, task.measure, self.paid)

    @property
    def stay(self) -> np.ndarray:
        """Reported cost of the local answer, for classes 1 where it is wrong, float64 (n,)."""
        return self._reported.stay

    @property
    def go(self) -> np.ndarray:
        """Reported cost of the cloud's answer, for classes 1 where it is wrong, float64 (n,)."""
        return self._reported.go

    @property
    def differ(self) -> np.ndarray:
        """Bound of |stay - go|, or itself without one; for classes 0 or 1, float64 (n,)."""
        return self._reported.differ

    @property
    def benefit_cost(self) -> str:
        """The cost whose difference is B_k unless another is named."""
        return self.task.benefit_cost

    @property
    def local_correct(self) -> np.ndarray:
        """Whether the local answer is right, bool of shape (n,); see `right_answers`."""
        return right_answers(self, "local_correct")[0]

    @property
    def cloud_correct(self) -> np.ndarray:
        """Whether the cloud's answer is right, bool of shape (n,); see `right_answers`."""
        return right_answers(self, "cloud_correct")[1]

    @property
    def disagree(self) -> np.ndarray:
        """Whether the two networks answer differently, bool of shape (n,)."""
        return self.task.answers(self.edge.outputs) != self.task.answers(self._last.outputs)

    @cached_property
    def cloud_probabilities(self) -> np.ndarray:
        """Softmax of the cloud logits, float64 (n, num_classes); ValueError if there are none."""
        return self._last.require("probabilities", "cloud_probabilities").probabilities

    def save(self, path) -> None:
        """Write outputs, targets and task to an uncompressed `.npz`, whole or not at all.

        Inputs are not written, nor are features that are made when they are asked for: give the
        bank `np.asarray` of these first, by `with_features`, if they are to be kept.

        Raises:
            OSError: If the folder cannot be written; an older file at `path` is then untouched.
            ValueError: If the task is none that `load` knows.
        """
        task = json.dumps(task_as_json(self.task))
        kept = {name: tier.kept() for name, tier in self.tiers.items()}
        arrays = {f"{name}{part}": a for name, parts in kept.items() for part, a in parts.items()}
        own: dict[str, Any] = {"tiers": [*self.tiers], "labels": self.targets, "index": self.index}
        with replacing_file(path) as file:
            np.savez(file, **{**arrays, **own}, task=task)

    @classmethod
    def load(cls, path, inputs: Array | None = None) -> "Bank":
        """Read a saved bank; feature maps stay on disk and are paged in as they are used.

        Args:
            path: The `.npz` written by `save`.
            inputs: All inputs of the split it was captured from, if any; `index` finds the rows.

        Raises:
            ValueError: If the file holds no bank, or refers to inputs that are not there.
        """
        try:
            with np.load(path, allow_pickle=False) as saved:
                if "tiers" in saved.files:
                    names = saved["tiers"].tolist()
                    kept = {name: f"{name}{FEATURES}" for name in names}
                    mapped = {name: array for name, array in kept.items() if array in saved.files}
                else:  # an older file, whose features are those of the device and may be empty
                    names, mapped = TIERS, {LOCAL: "features"}
                features = {name: mapped_array(path, array) for name, array in mapped.items()}
                outputs = {name: saved[f"{name}{LOGITS}"] for name in names}
                second = {n: saved[a] for n in names if (a := f"{n}{MIRRORED}") in saved.files}
                parts = {n: (a, features.get(n), None, second.get(n)) for n, a in outputs.items()}
                tiers = {name: TierOutputs(*part) for name, part in parts.items()}
                targets, index = saved["labels"], saved["index"]
                task: Task = CLASSIFICATION  # of files before there was another
                if "task" in saved.files:
                    task = task_from_json(json.loads(str(saved["task"])))
        except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a saved bank: {error}") from error
        if inputs is not None:
            first, edge = next(iter(tiers.items()))
            tiers[first] = replace(edge, inputs=indexed(inputs, index, path))
        return cls(tiers, targets, task, index)
