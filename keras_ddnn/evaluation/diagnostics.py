"""Will learning when to offload help, and from which labels? Answered before a head is trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import ks_2samp

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.gate_costs import benefit, hard_labels, right_answers
from keras_ddnn.evaluation.oracle_gap import oracle_scores
from keras_ddnn.evaluation.statistics import Interval, audc_gain, audc_interval
from keras_ddnn.rules.confidence import CONFIDENCE_RULES, RULES, OffloadRule, untrained_rules

BORDER = 0.01  # B_k closer to zero than this: it hardly matters who answers
WORTH_LEARNING = 0.005  # of accuracy; less headroom is not worth a head
HONEST = {"local_gap": 0.03, "benefit_distance": 0.1}
MEMORISED = {"local_gap": 0.1, "benefit_distance": 0.2}
BINS = 40


@dataclass(frozen=True)
class BankFacts:
    """What one bank holds; all but `samples` are shares of its samples, in [0, 1].

    Attributes:
        samples: How many.
        local_accuracy, cloud_accuracy: Right answers of either network alone.
        recovery: P(cloud right, local wrong): gained by offloading exactly these.
        breakage: P(local right, cloud wrong): lost by offloading them.
        border: |B_k| < 0.01.
        noise: Labels of b* against the oracle where it is decisive, that is where exactly one
            network is right: labelled hard though only the local network is right, or easy though
            only the cloud is.
    """

    samples: int
    local_accuracy: float
    cloud_accuracy: float
    recovery: float
    breakage: float
    border: float
    noise: float

    @classmethod
    def of(cls, bank: Bank, cost: str = "true_class", local_fraction: float = 0.5) -> "BankFacts":
        """Count; `cost` and `local_fraction` are those of the labels, as in `HeadConfig`."""
        (local, cloud), benefits = right_answers(bank, "a diagnosis"), benefit(bank, cost)
        mislabelled = hard_labels(benefits, local_fraction) != cloud
        return cls(
            len(bank),
            float(local.mean()),
            float(cloud.mean()),
            float(np.mean(cloud & ~local)),
            float(np.mean(local & ~cloud)),
            float(np.mean(np.abs(benefits) < BORDER)),
            float(np.mean((local != cloud) & mislabelled)),
        )


@dataclass(frozen=True)
class Diagnosis:
    """What two banks say of learning to offload; `str` of it is the answer in plain language.

    Attributes:
        cost, local_fraction: What B_k and the labels of b* are made of.
        train, val: The two banks.
        audc: AUDC on validation data, with intervals: the confidence rules, the learned rules and
            "oracle".
        best_confidence: The rule of highest AUDC among `RULES` without "random".
        headroom: AUDC of the oracle less that of `best_confidence`, paired. No rule reaches the
            oracle, which knows the labels.
        gains: Learned rule → its AUDC less that of `best_confidence`, paired.
        local_gap: Local accuracy on training less validation data.
        benefit_distance: Kolmogorov-Smirnov distance of B_k on the two banks, in [0, 1]: no b*
            makes shares of hard labels differ by more.
        benefit_p_value: p-value of that distance, if both banks had one distribution.
        histogram: "edges" of B_k and the counts between them, "train" and "val".
        recommended_rule, recommended_labels: A key of `audc` and the name of a label source.
        verdict, advice: The reasons of the two, a sentence or two each.
    """

    cost: str
    local_fraction: float
    train: BankFacts
    val: BankFacts
    audc: dict[str, Interval]
    best_confidence: str
    headroom: Interval
    gains: dict[str, Interval]
    local_gap: float
    benefit_distance: float
    benefit_p_value: float
    histogram: dict[str, list]
    recommended_rule: str
    recommended_labels: str
    verdict: str
    advice: str

    def as_json(self) -> dict:
        """Return all of it as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping) -> "Diagnosis":
        """Return what `as_json` has written."""
        fields = dict(content)
        for name in ("train", "val"):
            fields[name] = BankFacts(**fields[name])
        for name in ("audc", "gains"):
            fields[name] = {rule: Interval(**ends) for rule, ends in fields[name].items()}
        return cls(**fields | {"headroom": Interval(**fields["headroom"])})

    def __str__(self):
        best, oracle = self.audc[self.best_confidence], self.audc["oracle"]
        lines = [_line("training", self.train), _line("validation", self.val)]
        lines += [
            f"labels of b* contradict the oracle on {self.train.noise:.1%} of the training and "
            f"{self.val.noise:.1%} of the validation samples; |B_k| < {BORDER} on "
            f"{self.train.border:.1%} and {self.val.border:.1%}",
            self.verdict,
            f"best confidence rule: {self.best_confidence}, AUDC {100 * best.mean:.2f} % "
            f"({100 * best.low:.2f} … {100 * best.high:.2f})",
            f"oracle: AUDC {100 * oracle.mean:.2f} %, headroom {self.headroom} points",
            *(f"{name}: {gain} points over the best" for name, gain in self.gains.items()),
            self.advice,
            f"use: rule {self.recommended_rule}, labels {self.recommended_labels}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class RuleFindings:
    """Which rule to take, by one bank; its fields are those of `Diagnosis`."""

    audc: dict[str, Interval]
    best_confidence: str
    headroom: Interval
    gains: dict[str, Interval]
    recommended_rule: str
    advice: str


def judge_rules(
    bank: Bank, learned: Mapping[str, np.ndarray], resamples: int = 999
) -> RuleFindings:
    """Compare the scores of learned rules with the confidence rules, and recommend a rule.

    That is the learned rule of highest AUDC if the interval of its gain lies above zero, else the
    best confidence rule.

    Args:
        bank: n samples, at least two.
        learned: Name → scores of its samples, float (n,); may be empty.
        resamples: Bootstrap resamples of each interval.

    Raises:
        ValueError: If a rule bears the name of a confidence rule or "oracle", there is not one
            finite score a sample, or answers are not right or wrong.
    """
    right_answers(bank, "a recommendation")  # its limits are in points of accuracy
    if taken := sorted({*RULES, "oracle"} & set(learned)):
        raise ValueError(f"learned rules need names of their own; received {', '.join(taken)}")
    scores = {name: rule.score(bank.edge) for name, rule in untrained_rules().items()}
    scores |= {**learned, "oracle": oracle_scores(bank)}
    audc = {name: audc_interval(s, bank, resamples) for name, s in scores.items()}
    best = max(CONFIDENCE_RULES, key=lambda name: audc[name].mean)
    gains = {
        name: audc_gain(scores[name], scores[best], bank, resamples)
        for name in (*learned, "oracle")
    }
    headroom = gains.pop("oracle")
    return RuleFindings(audc, best, headroom, gains, *_recommend(best, headroom, gains))


def diagnose(
    train_bank: Bank,
    val_bank: Bank,
    rules: Mapping[str, OffloadRule],
    *,
    cost: str = "true_class",
    local_fraction: float = 0.5,
    resamples: int = 999,
) -> Diagnosis:
    """Say whether learning when to offload will help, and which labels to learn from.

    Labels, by how the banks differ in local accuracy and in the distribution of B_k:

    - no more than by 3 points and a distance of 0.1, or a distance that chance explains (p ≥ 0.01):
      "final_epoch", the labels of the paper;
    - by more: "augmented". It trains no further network, and where training images are memorised
      (by more than 10 points or a distance of 0.2) it taught better than networks that had not seen
      them: those are networks of less data, which make other errors (`results/honest_labels`).

    Rule: see `judge_rules`. Rules are compared on the validation data; where it also chose or
    stopped them, confirm the winner on test data.

    Args:
        train_bank: What the networks said of the samples they were trained on.
        val_bank: What they said of others, at least two.
        rules: Name → learned rule; may be empty.
        cost: A key of `COSTS`, whose benefit is B_k.
        local_fraction: L0 of the labels, in [0, 1].
        resamples: Bootstrap resamples of each interval.

    Returns:
        The findings; 5,000 validation samples and 10 rules take about 3 seconds.

    Raises:
        ValueError: If a rule bears the name of a confidence rule or "oracle", a score is not
            finite, or `local_fraction` lies outside [0, 1].
    """
    learned = {name: rule.score(val_bank.edge) for name, rule in rules.items()}
    found = judge_rules(val_bank, learned, resamples)
    train, val = (BankFacts.of(bank, cost, local_fraction) for bank in (train_bank, val_bank))
    benefits = {"train": benefit(train_bank, cost), "val": benefit(val_bank, cost)}
    distance = ks_2samp(benefits["train"], benefits["val"])
    labels, verdict = _recommend_labels(
        train, val, float(distance.statistic), float(distance.pvalue)
    )
    return Diagnosis(
        cost,
        local_fraction,
        train,
        val,
        found.audc,
        found.best_confidence,
        found.headroom,
        found.gains,
        train.local_accuracy - val.local_accuracy,
        float(distance.statistic),
        float(distance.pvalue),
        _histogram(benefits),
        found.recommended_rule,
        labels,
        verdict,
        found.advice,
    )


def _recommend_labels(train, val, distance, p_value) -> tuple[str, str]:
    """Return a label source and why."""
    gap = abs(train.local_accuracy - val.local_accuracy)

    def beyond(limits):
        return gap > limits["local_gap"] or distance > limits["benefit_distance"]

    seen = (
        f"local is {train.local_accuracy:.0%} right on its training data and "
        f"{val.local_accuracy:.0%} on validation data (B_k at distance {distance:.2f})"
    )
    if p_value >= 0.01 or not beyond(HONEST):
        return "final_epoch", f"in-sample labels are honest: {seen}; use final_epoch"
    if not beyond(MEMORISED):
        return "augmented", f"in-sample labels are somewhat off: {seen}; use augmented"
    return "augmented", f"in-sample labels are biased: {seen}; use augmented"


def _recommend(best, headroom, gains) -> tuple[str, str]:
    """Return a rule and why."""
    if headroom.high < WORTH_LEARNING:
        return best, f"learning cannot help: even the oracle gains less than half a point on {best}"
    if not gains:
        return best, f"learning may help, within the headroom; until a rule is learned, use {best}"
    winner = max(gains, key=lambda name: gains[name].mean)
    if gains[winner].low > 0:
        share = gains[winner].mean / headroom.mean
        return winner, f"learning helps: {winner} takes {share:.0%} of the headroom over {best}"
    return best, f"learning has not helped: no learned rule is surely better than {best}"


def _histogram(benefits: Mapping[str, np.ndarray]) -> dict[str, list]:
    # Symmetric, so that zero, where the better network changes, is an edge.
    reach = max(np.abs(values).max() for values in benefits.values()) or 1.0
    edges = np.linspace(-reach, reach, BINS + 1)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in benefits.items()}
    return {"edges": edges.tolist(), **counts}


def _line(name: str, facts: BankFacts) -> str:
    return (
        f"{name}: {facts.samples:,} samples, local {facts.local_accuracy:.1%} right, cloud "
        f"{facts.cloud_accuracy:.1%}; only the cloud {facts.recovery:.1%}, only local "
        f"{facts.breakage:.1%}"
    )
