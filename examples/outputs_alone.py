"""Offloading between two classifiers of scikit-learn, by their outputs alone.

    python examples/outputs_alone.py OUTPUTS.npz
    python -m keras_ddnn.rules OUTPUTS.npz --output runs/outputs_alone

A logistic regression stands for the device and gradient boosting for the cloud, on the digits that
come with scikit-learn. Neither step loads TensorFlow. In a program that answers requests, the file
that the second step writes decides what to send:

    rule = keras_ddnn.load_rule("runs/outputs_alone/rule.json")
    send = rule.offload(local_logits)
"""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # many threads hinder each other on 8×8 pixels

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def write_outputs(path: str, train_share: float = 0.4, rounds: int = 40) -> None:
    """Train both classifiers on a share of the digits, and write what they say of the others.

    Args:
        path: The `.npz` to write.
        train_share: Share of the 1,797 digits that train the classifiers.
        rounds: Of gradient boosting.
    """
    pixels, labels = load_digits(return_X_y=True)
    train, others = train_test_split(
        np.arange(len(labels)), train_size=train_share, stratify=labels, random_state=0
    )
    val, _ = train_test_split(others, train_size=0.6, stratify=labels[others], random_state=0)
    # The device reads every other pixel, as a cheap sensor would.
    local = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    local.fit(pixels[train, ::2], labels[train])
    cloud = HistGradientBoostingClassifier(max_iter=rounds, random_state=0)
    cloud.fit(pixels[train], labels[train])
    np.savez(
        path,
        local_logits=local.decision_function(pixels[others, ::2]),
        cloud_logits=cloud.decision_function(pixels[others]),
        labels=labels[others],
        split=np.where(np.isin(others, val), "val", "test"),
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/outputs_alone.py OUTPUTS.npz")
    write_outputs(sys.argv[1])
    print(f"{sys.argv[1]}: go on with python -m keras_ddnn.rules {sys.argv[1]}")
