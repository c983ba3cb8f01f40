"""A rule, its threshold and its promise in one small JSON file, which scores new logits."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.files.checks import require_choice, require_count
from keras_ddnn.files.checksums import read_sealed_json, write_sealed_json
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.rules.calibration import Calibration
from keras_ddnn.rules.confidence import Gate, OffloadRule, name_of, untrained_rules
from keras_ddnn.tasks.arrays import as_logits, refuse_probabilities

SCHEMA = 1
FEWEST_ROWS = 8  # so many rows of logits do not look like probabilities by chance
LOGIT_HEAD = "logit_head"

# Name in a file -> rule of logits alone.
LOGIT_RULES: dict[str, type[OffloadRule]] = {
    **{name: type(rule) for name, rule in untrained_rules().items()},
    LOGIT_HEAD: LogitHead,
}
EXPECTED = "a SavedRule expects a rule of logits (save_policy keeps others):"


@dataclass(frozen=True, eq=False)
class SavedRule:
    """A rule of logits alone, with a threshold: it decides what to offload without TensorFlow.

    Attributes:
        rule: One whose class is in `LOGIT_RULES`.
        calibration: Its threshold, and what was promised of it.
        num_classes: Columns of the logits that it reads.

    Raises:
        ValueError: If the rule is another, or `num_classes` is no count.
    """

    rule: OffloadRule
    calibration: Calibration
    num_classes: int

    def __post_init__(self) -> None:
        require_count(num_classes=self.num_classes)
        name_of(self.rule, LOGIT_RULES, EXPECTED)

    @property
    def name(self) -> str:
        """The rule's key of `LOGIT_RULES`."""
        return name_of(self.rule, LOGIT_RULES, EXPECTED)

    @property
    def score_threshold(self) -> float:
        """Samples with a score at or above it are offloaded."""
        return self.calibration.score_threshold

    def score(self, logits: Any) -> np.ndarray:
        """Return the scores, float (n,), of local logits (n, num_classes) of any framework.

        Raises:
            ValueError: If they are not finite floats of that shape, or are probabilities.
        """
        return self.rule.score(self._checked(logits))

    def offload(self, logits: Any) -> np.ndarray:
        """Return whether to offload each sample, bool (n,); raises as `score`."""
        return Gate(self.rule, self.score_threshold).sends_on(self._checked(logits))

    def _checked(self, logits: Any) -> TierOutputs:
        logits = as_logits(logits, "local logits", self.num_classes)
        if len(logits) >= FEWEST_ROWS:
            refuse_probabilities(logits, "local logits")
        return TierOutputs(logits)

    def save(self, path) -> None:
        """Write all of it as one JSON file with its own hash, whole or not at all.

        Raises:
            OSError: If the folder cannot be written.
        """
        calibration = asdict(self.calibration)
        calibration["score_threshold"] = _as_json_number(self.score_threshold)
        content = {
            "schema": SCHEMA,
            "rule": {"name": self.name, "config": self.rule.get_config()},
            "calibration": calibration,
            "num_classes": self.num_classes,
        }
        write_sealed_json(path, content)


def load_rule(path) -> SavedRule:
    """Read a rule written by `python -m keras_ddnn.rules` or `SavedRule.save`.

    Args:
        path: The JSON file.

    Returns:
        SavedRule: Its `score(logits)` scores new local logits, `offload(logits)` decides; neither
        needs TensorFlow.

    Raises:
        ValueError: If the file cannot be read, is damaged or is of another schema.
    """
    content = read_sealed_json(path)
    try:
        if content["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}; received {content['schema']}")
        rule = content["rule"]
        require_choice("rule", rule["name"], LOGIT_RULES)
        return SavedRule(
            LOGIT_RULES[rule["name"]].from_config(rule["config"]),
            _calibration(content["calibration"]),
            content["num_classes"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no rule: {type(error).__name__} {error}") from error


def _calibration(content: Mapping[str, Any]) -> Calibration:
    content = {field.name: content[field.name] for field in fields(Calibration)}
    for name in ("limits", "prices"):
        content[name] = {what: tuple(pair) for what, pair in content[name].items()}
    return Calibration(**content | {"score_threshold": float(content["score_threshold"])})


def _as_json_number(x: float) -> float | str:
    """Return a number, or "inf" or "-inf", for which JSON has no number; `float` reads both."""
    return x if math.isfinite(x) else str(x)
