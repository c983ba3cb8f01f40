"""An artefact's threshold, certificate and temperatures, chosen anew on later samples."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.classes import labels_of
from keras_ddnn.deploy.artifact import fit_temperatures, load_policy
from keras_ddnn.files.checks import require_inputs
from keras_ddnn.files.manifest import artifact_of, read_manifest
from keras_ddnn.files.signature import Key, private_key
from keras_ddnn.rules.calibration import (
    CALIBRATIONS,
    Calibration,
    for_local_fraction,
    operating_points,
)
from keras_ddnn.rules.outcome import FORMATS, outcome_of
from keras_ddnn.rules.prices import for_price
from keras_ddnn.rules.recalibration import read_recalibrated, write_recalibration
from keras_ddnn.tasks.arrays import require_rows
from keras_ddnn.tasks.temperature import temperatures_of
from keras_ddnn.training.capture import capture

# (scores (n,), Bank) -> Calibration
Calibrate = Callable[[np.ndarray, Bank], Calibration]
NO_PROMISE = "none was chosen when the artefact was saved"


@dataclass(frozen=True)
class Operation:
    """What a threshold does on the new samples.

    Attributes:
        score_threshold: The threshold.
        outcome: `local_fraction`, and `accuracy` and `accuracy_drop`, or the mean `cost` and
            `cost_increase`; see `Calibration.realised`.
        promise: What was promised of it, in plain words; None if nothing was.
        kept: Whether the promise is kept on the new samples; None without one.
        temperatures: "local" and "cloud" → that of the tier's logits; empty where outputs are none.
    """

    score_threshold: float
    outcome: Mapping[str, float]
    promise: str | None
    kept: bool | None
    temperatures: Mapping[str, float]


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration has changed, told on the samples that it was chosen on.

    Attributes:
        path: The file that devices take up.
        samples: How many there were.
        before, after: What the former and the new threshold do on them.
        calibration: The new threshold, and what is promised of it.
    """

    path: Path
    samples: int
    before: Operation
    after: Operation
    calibration: Calibration

    def rows(self) -> list[tuple[str, str, str]]:
        """Return what is told, before and after, in plain words."""
        told = [_in_words(operation) for operation in (self.before, self.after)]
        return [(name, told[0][name], told[1][name]) for name in told[1]]


def recalibrate(
    artifact: str | Path,
    inputs: np.ndarray,
    labels: Any,
    *,
    calibrate: Calibrate | None = None,
    dataset: str | None = None,
    verify_key: Key | None = None,
    sign: Key | None = None,
) -> Recalibrated:
    """Choose threshold, certificate and temperatures of an artefact anew, without training.

    The result is a small file beside the artefact, which stays as it is; see
    `keras_ddnn.rules.recalibration`. Devices that run the artefact take it up at their next call,
    without a restart. Another recalibration replaces it; where it is deleted, the artefact's own
    values count again. `load_policy` reads the artefact as it was saved.

    Args:
        artifact: The artefact, or the run that it belongs to.
        inputs: Of samples that trained neither networks nor rule, (n, ...), as the artefact reads
            them: images are uint8 (n, h, w, c).
        labels: The user's labels of the artefact, (n,); or the true numbers.
        calibrate: Chooses the threshold, given scores and bank, such as
            `partial(for_accuracy_drop, max_drop=0.01)`. By default the promise in force is made
            again; without one, that of the local fraction which the threshold had.
        dataset: What the samples are called.
        verify_key: The public key that the artefact and its recalibration in force must be signed
            by.
        sign: The private key that signs the file, which devices with a `verify_key` ask for.

    Returns:
        What the thresholds before and after do on these samples.

    Raises:
        OSError: If the file cannot be written or a key cannot be read.
        ValueError: In one line, before a network is run, if the inputs are of another shape or
            type, a label is none of the artefact's classes, or a file or key is bad; or if the
            promise cannot be made of these samples.
    """
    key, folder = None if sign is None else private_key(sign), artifact_of(artifact)
    saved = read_manifest(folder, verify_key)
    manifest = read_recalibrated(folder, saved, verify_key)
    calibrate = calibrate or _again(manifest)
    require_inputs(inputs, manifest["input_shape"], manifest["input_dtype"])
    targets = labels_of(manifest).encode(labels)
    require_rows("labels", len(targets), len(inputs))
    policy = load_policy(folder, verify_key)
    bank = capture(policy.cascade, inputs, targets)
    scores = policy.rule.score(bank.edge)
    before = _before(manifest, scores, bank)
    calibration, temperatures = calibrate(scores, bank), fit_temperatures(bank)
    replaced = {
        "score_threshold": calibration.score_threshold,
        "calibration": asdict(calibration),
        "plan": operating_points(scores, bank),
        **({"temperatures": temperatures} if temperatures else {}),
        **({} if dataset is None else {"dataset": dataset}),
    }
    path = write_recalibration(folder, saved, replaced, key)
    after = _operation(calibration, scores, bank, temperatures)
    return Recalibrated(path, len(bank), before, after, calibration)


def _again(manifest: Mapping[str, Any]) -> Calibrate:
    """Return what makes the promise in force again, on other samples."""
    kept, plan = manifest["calibration"], manifest["plan"]
    if kept is not None:
        known, options = {**CALIBRATIONS, "price": for_price}, kept["numbers"]["options"]
        if kept["name"] in known and "limits" not in options:
            return partial(known[kept["name"]], **options)
        raise ValueError(
            f"the promise of the artefact, {kept['name']!r}, cannot be made again by itself: say "
            "what to promise, by calibrate= or --local-fraction, --max-drop or --max-increase"
        )
    if plan is None:
        raise ValueError(
            "the artefact keeps no promise and nothing of validation data: say what to promise, by "
            "calibrate= or --local-fraction, --max-drop or --max-increase"
        )
    thresholds, local = ([p[of] for p in plan] for of in ("score_threshold", "local_fraction"))
    share = float(np.interp(manifest["score_threshold"], thresholds, local))
    return partial(for_local_fraction, local_fraction=share)


def _before(manifest: Mapping[str, Any], scores: np.ndarray, bank: Bank) -> Operation:
    threshold, kept = manifest["score_threshold"], manifest["calibration"]
    logits = "probabilities" in bank.task.gives
    temperatures = temperatures_of(manifest) if logits else {}
    if kept is None:
        return Operation(threshold, outcome_of(threshold, scores, bank), None, None, temperatures)
    former = replace(Calibration(**kept), score_threshold=threshold)
    return _operation(former, scores, bank, temperatures)


def _operation(
    calibration: Calibration,
    scores: np.ndarray,
    bank: Bank,
    temperatures: Mapping[str, float],
) -> Operation:
    outcome = calibration.realised(scores, bank)
    kept = outcome.pop("kept")
    return Operation(calibration.score_threshold, outcome, calibration.promise, kept, temperatures)


def _in_words(operation: Operation) -> dict[str, str]:
    outcome = {name: x for name, x in operation.outcome.items() if name in FORMATS}
    promise = operation.promise or NO_PROMISE
    if operation.kept is not None:
        promise += f"; {'kept' if operation.kept else 'broken'} on these samples"
    temperatures = (f"{name} {t:.3g}" for name, t in operation.temperatures.items())
    return {
        "threshold": f"{operation.score_threshold:.6g}",
        **{name.replace("_", " "): FORMATS[name](x) for name, x in outcome.items()},
        "promise": promise,
        "temperatures": ", ".join(temperatures) or "none: answers are numbers",
    }
