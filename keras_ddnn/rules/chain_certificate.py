"""The proof behind a promise for a whole chain: how cheap a plan may be without losing more."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ddnn.files.checks import expect, require_probability
from keras_ddnn.rules.certificate import most_losses, probability_of
from keras_ddnn.rules.plans import Plan, ScoredChain


@dataclass(frozen=True)
class CertifiedPlan:
    """The cheapest plan of a path that surely loses little, and what is promised of it.

    Attributes:
        plan: Its thresholds, and what they did on the samples that certified it.
        dearest: The same of the plan that sends everything to the last tier.
        max_drop: The largest drop of accuracy below that of the last tier.
        delta: The probability of a larger one.
        n: Samples that certified it.
    """

    plan: Plan
    dearest: Plan
    max_drop: float
    delta: float
    n: int

    @property
    def promise(self) -> str:
        """The promise in plain words."""
        points, probability = f"{100 * self.max_drop:.2f} points", probability_of(self.delta)
        samples = "1 sample" if self.n == 1 else f"{self.n:,} samples"
        if self.plan == self.dearest:
            return (
                f"everything goes to the last tier, for {samples} "
                f"{'certifies' if self.n == 1 else 'certify'} no plan at a drop of {points} with "
                f"probability {probability}"
            )
        return (
            f"with probability {probability} or more, accuracy is at most {points} below the last "
            f"tier's (mean price {self.plan.price:,.4g} instead of {self.dearest.price:,.4g} on "
            f"{samples})"
        )


def for_chain_drop(
    chain: ScoredChain, max_drop: float = 0.01, delta: float = 0.1, *, seed: int = 0
) -> CertifiedPlan:
    """Choose all thresholds of a chain so that it loses at most `max_drop`, certainly.

    Half of the samples choose a path: the plans of their frontier, from the dearest to the
    cheapest. The other half walks along it and certifies; see `certified_plan`. One certificate is
    for the whole chain. To share `delta` among its gates would prove less, and a threshold that
    moves once it is certified is certified no more.

    Args:
        chain: Validation samples, two at least, that trained no tier and taught no rule; costs of 0
            and 1.
        max_drop: The accuracy drop allowed against the last tier alone, in (0, 1).
        delta: The probability of a larger drop that is put up with, in (0, 1).
        seed: Seed that draws the halves.

    Returns:
        CertifiedPlan: If nothing is certified, everything goes to the last tier.

    Raises:
        ValueError: If `chain` is none, `max_drop` or `delta` lies outside (0, 1), a cost is neither
            0 nor 1, or there are fewer than two samples.
    """
    require_probability(max_drop=max_drop, delta=delta)
    scored = "a ScoredChain, as ScoredChain.of(bank, rules, prices) makes one"
    expect(isinstance(chain, ScoredChain), "chain", scored, type(chain).__name__)
    if len(chain) < 2:
        raise ValueError(
            f"expected two samples or more, to choose and to certify; received {len(chain)}"
        )
    _require_zero_one(chain)
    shuffled = np.random.default_rng(seed).permutation(len(chain))
    first, second = np.array_split(shuffled, 2)
    path = [plan.thresholds for plan in reversed(chain.rows(first).frontier())]
    return certified_plan(path, chain.rows(second), max_drop, delta)


def certified_plan(
    path: Sequence[Sequence[float]], chain: ScoredChain, max_drop: float, delta: float
) -> CertifiedPlan:
    """Walk along a path of plans and return the last one that is certified.

    Learn then Test (Angelopoulos et al., 2021) with fixed-sequence testing, as in
    `certified_threshold`: each plan in turn is tested, "the drop of the whole chain below its last
    tier is `max_drop` or more" against "less", until one test fails. The first plan of the path
    that loses too much is passed with a probability of `delta` at most, whatever comes behind it.
    The test is exact: a sample is lost, gained or neither, see `most_losses`.

    Args:
        path: Thresholds, one a gate, of each plan; the safest first. They must not have seen the
            samples of `chain`.
        chain: n samples; costs of 0 and 1.
        max_drop, delta: See `for_chain_drop`.

    Raises:
        ValueError: As `for_chain_drop`.
    """
    require_probability(max_drop=max_drop, delta=delta)
    _require_zero_one(chain)
    n, correct = len(chain), chain.costs == 0
    most, last = most_losses(n, max_drop, delta), correct[:, -1]
    best = dearest = chain.anytime()[-1]  # which loses nothing and needs no test
    for thresholds in path:
        kept = correct[np.arange(n), chain.ends(thresholds)]
        losses, gains = np.count_nonzero(last & ~kept), np.count_nonzero(kept & ~last)
        if losses > most[gains]:
            break
        best = chain.plan(thresholds)
    return CertifiedPlan(best, dearest, max_drop, delta, n)


def _require_zero_one(chain: ScoredChain) -> None:
    other = ~np.isin(chain.costs, (0.0, 1.0))
    if other.any():
        raise ValueError(
            "the exact test counts answers that are right or wrong: expected costs of 0 and 1; "
            f"received {float(chain.costs[other][0])}; score the chain by such a cost, like "
            "'zero_one'"
        )
