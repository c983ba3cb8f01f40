"""How the classes fare: accuracy and local share of each, and means in which all count alike."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from keras_ddnn.data.bank import Bank
from keras_ddnn.rules.confidence import OffloadRule

COLUMNS = ("rule", "class", "samples", "accuracy", "local_fraction")


def by_class(
    rules: Mapping[str, OffloadRule],
    thresholds: Mapping[str, float],
    test: Bank,
    class_names: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decide by each rule at its threshold, and tell how each class fares.

    Args:
        rules: Name → rule.
        thresholds: Name → score threshold; of other rules nothing is told.
        test: Samples to report on.
        class_names: In the order of the logits.

    Returns:
        A row a rule, its index: `balanced_accuracy`, the mean of the accuracies of the classes that
        have samples, and `macro_f1`, the mean of F1 over classes that have samples or answers. And
        a row a rule and class: `COLUMNS`, of which the last two are NaN for a class without
        samples.

    Raises:
        ValueError: If answers are no classes.
    """
    from sklearn.metrics import f1_score

    test.edge.require("probabilities", "by_class")  # answers that are classes
    local, cloud = (logits.argmax(axis=1) for logits in (test.edge.outputs, test.cloud_logits))
    counts = np.bincount(test.labels, minlength=len(class_names))

    def share(hits: np.ndarray) -> np.ndarray:
        """Return the share of the samples of each class that are hits, NaN where it has none."""
        sums = np.bincount(test.labels, hits, len(class_names))
        return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    means, rows = {}, []
    for name, threshold in thresholds.items():
        offloaded = rules[name].score(test.edge) >= threshold
        answers = np.where(offloaded, cloud, local)
        accuracy = share(answers == test.labels)
        macro_f1 = f1_score(test.labels, answers, average="macro", zero_division=0.0)
        means[name] = {"balanced_accuracy": np.nanmean(accuracy), "macro_f1": macro_f1}
        columns = (name, class_names, counts, accuracy, share(~offloaded))
        rows.append(pd.DataFrame(dict(zip(COLUMNS, columns))))
    return pd.DataFrame.from_dict(means, orient="index"), pd.concat(rows, ignore_index=True)
