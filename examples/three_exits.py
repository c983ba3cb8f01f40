"""A chain of three classifiers of scikit-learn: gates, plans and a certificate for the whole chain.

    python examples/three_exits.py

Logistic regressions of a few pixels and of half of them stand for a sensor and a gateway, one of
all pixels and their products for a cloud, on the digits that come with scikit-learn. It takes
seconds, and no TensorFlow is loaded.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_ddnn
from keras_ddnn.evaluation.chains import untrained_chain_rules

PRICES = (1, 4, 20)  # milliseconds that each tier adds
BUDGETS = (3.0, 6.0, 12.0)  # of a sample, on average


def banks(seed: int = 0) -> list[keras_ddnn.Bank]:
    """Return what the three say of samples that teach, of some that choose, and of the others."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.arange(len(labels))
    train, rest = train_test_split(rows, train_size=0.25, stratify=labels, random_state=seed)
    tiers = {
        "local": (slice(0, 64, 4), LogisticRegression(C=0.01)),
        "gateway": (slice(0, 64, 2), LogisticRegression(C=0.1)),
        "cloud": (slice(None), make_pipeline(Nystroem(n_components=200), LogisticRegression(C=9))),
    }
    logits = {}
    for name, (read, model) in tiers.items():
        model = make_pipeline(StandardScaler(), model).fit(pixels[train][:, read], labels[train])
        logits[name] = model.decision_function(pixels[rest][:, read])
    bank = keras_ddnn.Bank.from_outputs(logits, labels[rest])
    parts = np.array_split(np.random.default_rng(seed).permutation(len(rest)), 3)
    return [bank.rows(np.sort(part)) for part in parts]


def main() -> None:
    """Compare rules at three budgets, then certify the best of them; see the top of the file."""
    teach, choose, test = banks()
    rules = untrained_chain_rules(len(PRICES))
    halves = keras_ddnn.Banks(teach, choose)
    gates = keras_ddnn.fit_gates(
        lambda gate: keras_ddnn.LogitHead.fit(gate.bank), halves, PRICES, budget=BUDGETS[1]
    )
    rules["logit_head"] = [gate.rule for gate in gates]
    table = keras_ddnn.compare_plans(rules, choose, test, PRICES, BUDGETS)
    told = ["rule", "budget", "accuracy", "price", "share_local", "share_gateway", "share_cloud"]
    print(table[told].round(3).to_string(index=False))

    chain = keras_ddnn.ScoredChain.of(choose, rules["logit_head"], PRICES)
    certified = keras_ddnn.for_chain_drop(chain, max_drop=0.05, delta=0.1)
    print(f"promised: {certified.promise}")
    seen = keras_ddnn.ScoredChain.of(test, rules["logit_head"], PRICES)
    found, last = seen.plan(certified.plan.thresholds), seen.anytime()[-1]
    print(
        f"on test data: {100 * (last.accuracy - found.accuracy):.2f} points below, mean price "
        f"{found.price:.1f} instead of {last.price:.1f}"
    )


if __name__ == "__main__":
    main()
