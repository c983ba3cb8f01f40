"""Unbalanced classes: what samples count in training, and what a report tells of each class."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_ddnn import fit_ddnn
from keras_ddnn.config import DDNNConfig, as_json
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.datasets import Split
from keras_ddnn.evaluation.per_class import by_class
from keras_ddnn.evaluation.report import Report
from keras_ddnn.tasks.arrays import Numbers
from keras_ddnn.training.joint import joint_batches
from keras_ddnn.training.recipe.sample_weights import sample_weights
from tune.space import SearchConfig

PETS = Classes(("cat", "dog"))
LABELS = np.array([0, 0, 0, 1])
TRAIN = Split(np.zeros((4, 16, 16, 3), np.uint8), LABELS, PETS)
SMALL = {"local_filters": 4, "cloud_filters": ((4,), (8,)), "cloud_units": (8,), "batch_size": 4}


@pytest.mark.parametrize(
    ("class_weight", "sample_weight", "expected"),
    [
        (None, None, None),
        # n / (k · count): 4 / (2 · 3) and 4 / (2 · 1).
        ("balanced", None, [2 / 3, 2 / 3, 2 / 3, 2]),
        ({"dog": 5}, None, [1, 1, 1, 5]),
        (None, [1, 2, 3, 4], [1, 2, 3, 4]),
        ("balanced", [3, 3, 0, 1], [2, 2, 0, 2]),
    ],
)
def test_weights_of_classes_and_samples_are_multiplied(class_weight, sample_weight, expected):
    config = DDNNConfig(class_weight=class_weight)
    weights = sample_weights(TRAIN, config.class_weight, sample_weight)
    assert (weights is None) == (expected is None)
    if expected:
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_classes_that_a_fold_lacks_do_no_harm():
    alone = Split(TRAIN.images[:3], LABELS[:3], PETS)
    assert sample_weights(alone, "balanced").tolist() == [1, 1, 1]
    assert sample_weights(alone, (("dog", 5.0),)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("class_weight", "sample_weight", "expected"),
    [
        ({"fox": 1}, None, "class_weight: expected known labels, 'cat', 'dog', received 'fox'"),
        (None, [1, 2], r"sample_weight: expected shape \(4,\), received shape \(2,\)"),
        (None, [1, 1, 1, -1], "finite numbers from 0 on, received -1 to 1"),
        (None, [1, 1, 1, np.nan], "finite numbers from 0 on, received nan to nan"),
        (None, ["a"] * 4, "sample_weight: expected numbers, received dtype <U1"),
        ({"cat": 0, "dog": 0}, None, "weights: expected a sample that counts, received 0 for all"),
    ],
)
def test_weights_that_mean_nothing_are_refused(class_weight, sample_weight, expected):
    config = DDNNConfig(class_weight=class_weight)
    with pytest.raises(ValueError, match=expected):
        sample_weights(TRAIN, config.class_weight, sample_weight)


def test_numbers_are_no_classes_that_weigh():
    numbers = Split(TRAIN.images, LABELS / 3, Numbers(1))
    with pytest.raises(ValueError, match=r"class_weight: expected classes, .* that are numbers"):
        sample_weights(numbers, "balanced")
    np.testing.assert_array_equal(sample_weights(numbers, None, [1, 2, 3, 4]), [1, 2, 3, 4])
    with pytest.raises(ValueError, match="class_weight: expected a task of classes, received"):
        SearchConfig(task=("regression",), network=("a+b",), class_weight="balanced")


@pytest.mark.parametrize("bad", ["even", {}, {1.5: 1}, {"cat": -1}, {"cat": np.nan}, 3, [1, 2]])
def test_a_configuration_says_what_class_weights_it_takes(bad):
    with pytest.raises(ValueError, match=r'must be "balanced" or \{label: weight\}'):
        DDNNConfig(class_weight=bad)


def test_class_weights_are_kept_as_plain_json_and_read_back():
    config = DDNNConfig(class_weight={np.int64(7): 2, 3: np.float32(0.5)})
    assert config.class_weight == ((3, 0.5), (7, 2.0))
    assert as_json(config)["class_weight"] == [[3, 0.5], [7, 2.0]]
    assert DDNNConfig(**as_json(config)) == config
    assert hash(config) == hash(DDNNConfig(class_weight={7: 2.0, 3: 0.5}))


def batch_of(**fields):
    weights = fields.pop("weights", None)
    config = DDNNConfig(precision="float32", batch_size=4, **fields)
    return next(iter(joint_batches(TRAIN, config, weights)))


def test_weights_go_to_both_outputs_with_their_samples():
    weights = np.array([1, 2, 3, 10], np.float32)
    _, targets, counts = batch_of(weights=weights)
    assert sorted(counts["local"].numpy().tolist()) == [1, 2, 3, 10]
    np.testing.assert_array_equal(counts["local"], counts["cloud"])
    assert counts["local"].numpy()[targets["local"].numpy() == 1].tolist() == [10]


def test_without_weights_a_batch_is_what_it_was():
    assert len(batch_of()) == 2
    plain = batch_of(lambda_local="random")[2]
    assert set(plain["local"].numpy().round(6)) == {np.unique(plain["local"]).round(6).item()}
    np.testing.assert_allclose(plain["local"] + plain["cloud"], 2.0, rtol=1e-6)


def test_weights_multiply_those_of_a_random_lambda():
    weights = np.array([1, 2, 3, 10], np.float32)
    plain = batch_of(lambda_local="random")[2]
    both = batch_of(lambda_local="random", weights=weights)[2]
    for output in ("local", "cloud"):
        factor = plain[output].numpy()[0]
        np.testing.assert_allclose(np.sort(both[output]), np.sort(factor * weights), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["class_weight", "sample_weight"])
def test_what_does_not_count_is_not_learned(toy_splits, how):
    """Of three classes the second alone counts, so that it is the answer to everything."""
    train = toy_splits.train
    counts = {"class_weight": {0: 0, 1: 1, 2: 0}, "sample_weight": train.labels == 1}[how]
    counts = counts if how == "class_weight" else counts.astype(float)
    options = SMALL | {"epochs": 4, "learning_rate": 0.01, "precision": "float32", "verbose": 0}
    bank = fit_ddnn(train, **options, **{how: counts}).bank
    for logits in (bank.edge.outputs, bank.cloud_logits):
        assert (logits.argmax(axis=1) == 1).mean() > 0.95


def test_a_fold_counts_its_own_rows(toy_splits, monkeypatch):
    import keras_ddnn.training.fit as module

    train = toy_splits.train
    weights, seen = np.arange(1.0, len(train) + 1), []

    def note(rest, val, config, **options):
        seen.append((rest, options["sample_weight"]))
        return SimpleNamespace(capture=lambda held: BANK)

    monkeypatch.setattr(module, "fit_ddnn", note)
    numbered = Split(train.images, train.labels, Classes.numbered(3))
    module.fit_fold(numbered, None, DDNNConfig(), 0, 3, sample_weight=weights)
    ((rest, kept),) = seen
    rows = (kept - 1).astype(int)
    np.testing.assert_array_equal(rest.images, train.images[rows])


# --- report -----------------------------------------------------------------------------------

# Local answers a a a a b, cloud answers a b b b b; the truth is a a a b b.
BANK = Bank.from_outputs(
    {
        "local": np.log(np.array([[0.8, 0.2]] * 4 + [[0.2, 0.8]])),
        "cloud": np.log(np.array([[0.7, 0.3]] + [[0.1, 0.9]] * 4)),
    },
    np.array([0, 0, 0, 1, 1]),
)


class Fixed:
    """Offloads samples 2, 3 and 4."""

    def score(self, edge):
        return np.array([0, 0, 1, 1, 1])


def test_every_class_has_its_accuracy_and_local_share():
    """Answers: a a | b b b. Class a has 2 of 3 right and 2 of 3 local, b both right and none local.

    Precision of a is 1, so F1 is 2·1·(2/3)/(1 + 2/3) = 0.8; that of b is 2/3 and its F1 0.8.
    """
    means, classes = by_class({"fixed": Fixed()}, {"fixed": 1}, BANK, ("a", "b"))
    assert means.loc["fixed"].to_dict() == pytest.approx(
        {"balanced_accuracy": 5 / 6, "macro_f1": 0.8}
    )
    rows = classes.set_index("class")
    assert rows["samples"].to_dict() == {"a": 3, "b": 2}
    assert rows["accuracy"].to_dict() == pytest.approx({"a": 2 / 3, "b": 1})
    assert rows["local_fraction"].to_dict() == pytest.approx({"a": 2 / 3, "b": 0})


def test_a_class_without_samples_is_left_out_of_the_mean(tmp_path):
    outputs = {
        name: np.c_[logits, np.full(5, -9.0)].astype(np.float32)
        for name, logits in (("local", BANK.edge.outputs), ("cloud", BANK.cloud_logits))
    }
    bank = Bank.from_outputs(outputs, BANK.labels)
    means, classes = by_class({"fixed": Fixed()}, {"fixed": 1}, bank, ("007", "NA", "none"))
    assert means.loc["fixed", "balanced_accuracy"] == pytest.approx(5 / 6)
    assert classes["accuracy"].isna().tolist() == [False, False, True]
    Report({}, means, means, classes).save(tmp_path / "report")
    table = (tmp_path / "report" / "curves.csv").read_text()
    (tmp_path / "report" / "curves.csv").write_text("local_fraction" + table)
    loaded = Report.load(tmp_path / "report").classes
    assert loaded["class"].tolist() == ["007", "NA", "none"]
    assert loaded["accuracy"].isna().tolist() == [False, False, True]
    (tmp_path / "report" / "classes.csv").unlink()
    assert Report.load(tmp_path / "report").classes is None  # as of earlier versions
