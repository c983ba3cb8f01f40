import numpy as np
import pytest

from keras_ddnn.bank import Bank, EdgeOutputs
from keras_ddnn.batches import augmented_views
from keras_ddnn.config import DDNNConfig
from keras_ddnn.labels import LABEL_SOURCES, VIEWS, fold_rows, join_folds, leakage_report
from keras_ddnn.training import fit_ddnn

SMALL = DDNNConfig(
    local_filters=4,
    cloud_filters=((4,), (8,)),
    cloud_units=(8,),
    epochs=3,
    batch_size=16,
    precision="float32",
)


@pytest.fixture(scope="module")
def fitted(toy_splits):
    return fit_ddnn(toy_splits.train, toy_splits.val, SMALL, stages=2, verbose=0)


@pytest.mark.parametrize(("source", "samples"), [("final_epoch", 96), ("augmented", 96 * VIEWS)])
def test_a_source_judges_the_training_images_or_views_of_them(fitted, toy_splits, source, samples):
    lesson = LABEL_SOURCES[source](fitted, toy_splits.train)
    assert len(lesson.bank) == len(lesson.judge) == samples
    np.testing.assert_array_equal(
        lesson.judge.labels, np.tile(toy_splits.train.labels, samples // 96)
    )


def test_views_differ_from_each_other_and_are_repeatable(toy_splits):
    images = toy_splits.train.images
    first, second = np.split(augmented_views(images, "crop_flip", views=2, seed=0), 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, augmented_views(images, "crop_flip", views=1, seed=0))


def test_stage_averages_are_means_of_probabilities(fitted, toy_splits):
    lesson = LABEL_SOURCES["stage_averaged"](fitted, toy_splits.train)
    np.testing.assert_allclose(lesson.judge.edge.local_probabilities.sum(axis=1), 1.0)
    assert lesson.bank is fitted.bank
    assert not np.allclose(
        lesson.judge.edge.local_probabilities, fitted.bank.edge.local_probabilities
    )


def test_one_stage_is_the_final_epoch(toy_splits):
    fitted = fit_ddnn(toy_splits.train, toy_splits.val, SMALL, stages=1, verbose=0)
    np.testing.assert_allclose(
        fitted.stage_bank.edge.local_probabilities,
        fitted.bank.edge.local_probabilities,
        atol=1e-5,
    )


def test_stage_averages_must_be_asked_for(toy_splits):
    fitted = fit_ddnn(toy_splits.train, toy_splits.val, SMALL, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="stages=0"):
        LABEL_SOURCES["stage_averaged"](fitted, toy_splits.train)


def test_cross_fitting_judges_every_sample_by_networks_that_have_not_seen_it(
    fitted, toy_splits, monkeypatch
):
    trained_on = []

    def spy(train, *arguments, **options):
        trained_on.append({image.tobytes() for image in train.images})
        return fit_ddnn(train, *arguments, **options)

    monkeypatch.setattr("keras_ddnn.labels.fit_ddnn", spy)
    lesson = LABEL_SOURCES["cross_fitted"](fitted, toy_splits.train)
    assert sorted(lesson.judge.index) == list(range(96))
    assert len(trained_on) == 3
    for seen, judged in zip(trained_on, np.split(lesson.bank.edge.images, 3)):
        assert len(seen) == 64
        assert not seen & {image.tobytes() for image in judged}


def test_held_out_labels_are_a_ninth_of_the_training_images(fitted, toy_splits):
    lesson = LABEL_SOURCES["held_out"](fitted, toy_splits.train)
    assert len(lesson.bank) == 11


def test_joined_folds_keep_the_features_of_the_deployed_network(fitted, toy_splits):
    rows = np.array([5, 3])
    fold = Bank(
        EdgeOutputs(np.ones((2, 3), np.float32), None, None),
        np.zeros((2, 3), np.float32),
        toy_splits.train.labels[rows],
    )
    bank = join_folds(fitted.bank, [(rows, fold)]).bank
    np.testing.assert_array_equal(bank.edge.features, fitted.bank.edge.features[rows])
    np.testing.assert_array_equal(bank.edge.local_logits, np.ones((2, 3)))
    np.testing.assert_array_equal(bank.index, rows)


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2], 30)
    for rest, held in fold_rows(labels, folds=3, seed=0):
        assert np.bincount(labels[held]).tolist() == [10, 10, 10]
        assert len(rest) == 60


def bank_with_accuracy(local, n=1000):
    """Return a bank whose local network is right on the first `local` · n, its cloud on 90%."""
    labels = np.zeros(n, int)
    right, wrong = [2.0, 0.0], [0.0, 2.0]
    answers = np.where((np.arange(n) < local * n)[:, None], right, wrong).astype(np.float32)
    cloud = np.where((np.arange(n) % 10 < 9)[:, None], right, wrong).astype(np.float32)
    return Bank(EdgeOutputs(answers, np.zeros((n, 1, 1, 1)), np.zeros((n, 1))), cloud, labels)


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.9, "memorised"), (0.75, "usable"), (0.71, "honest")]
)
def test_the_leakage_report_says_how_far_a_source_is_from_validation_data(accuracy, verdict):
    report = leakage_report({"source": bank_with_accuracy(accuracy)}, bank_with_accuracy(0.7))
    source, validation = report.to_dict("records")
    assert source["verdict"].startswith(verdict)
    assert source["local_accuracy"] == accuracy
    assert validation["source"] == "validation"
    assert validation["recovery"] == pytest.approx(0.27)  # 0.3 local wrong, 0.9 of them rescued
    assert validation["breakage"] == pytest.approx(0.07)
    assert validation["ks_distance"] == 0.0
