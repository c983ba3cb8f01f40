import keras
import numpy as np
import pytest
from conftest import two_tiers
from toy_networks import table_data, table_model

from keras_ddnn.config import DDNNConfig
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import (
    FOLDS,
    LABEL_SOURCES,
    VIEWS,
    Banks,
    fold_config,
    fold_rows,
    leakage_report,
)
from keras_ddnn.networks.compose import chain
from keras_ddnn.training.batches import augmented_views
from keras_ddnn.training.fit import fit_ddnn

SMALL = DDNNConfig(
    local_filters=4,
    cloud_filters=((4,), (8,)),
    cloud_units=(8,),
    epochs=3,
    batch_size=16,
    precision="float32",
    stages=2,
)
SAMPLES = {
    "final_epoch": 96,
    "augmented": 96 * VIEWS,
    "held_out": 96 // 9,
    "cross_fitted": 96,
    "stage_averaged": 96,
}


@pytest.fixture(scope="module")
def trained():
    """The images and the configuration that each fold's network was trained with."""
    trained = []

    def spy(train, val, config, **options):
        trained.append(({image.tobytes() for image in train.images}, config))
        return fit_ddnn(train, val, config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_ddnn.training.fit.fit_ddnn", spy)
        yield trained


@pytest.fixture(scope="module")
def fitted(toy_splits, trained):
    return fit_ddnn(toy_splits.train, toy_splits.val, SMALL, verbose=0)


def training_data_of(backbone, source):
    return LABEL_SOURCES[source].training_data(backbone)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, marks=pytest.mark.slow)
        if source in ("cross_fitted", "held_out")  # which train networks of their own
        else source
        for source in LABEL_SOURCES
    ],
)
def test_a_source_judges_training_images_or_views_of_them(fitted, toy_splits, source):
    training_data = training_data_of(fitted, source)
    assert len(training_data.bank) == len(training_data.labels_bank) == SAMPLES[source]
    np.testing.assert_array_equal(training_data.bank.index, training_data.labels_bank.index)
    labels = np.tile(toy_splits.train.labels, VIEWS)
    np.testing.assert_array_equal(
        training_data.labels_bank.labels, labels[training_data.labels_bank.index]
    )
    assert training_data.bank.edge.features.shape == (SAMPLES[source], 8, 8, 4)


def test_a_network_trained_without_augmentation_judges_crops_and_mirrored_images(fitted):
    images = training_data_of(fitted, "augmented").bank.edge.inputs
    seen = augmented_views(fitted.bank.edge.inputs, "crop_flip", VIEWS, seed=SMALL.seed)
    np.testing.assert_array_equal(images, seen)


def test_views_differ_from_each_other_and_are_repeatable(toy_splits):
    images = toy_splits.train.images
    first, second = np.split(augmented_views(images, "crop_flip", views=2, seed=0), 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, augmented_views(images, "crop_flip", views=1, seed=0))


def test_stage_averages_are_means_of_probabilities(fitted):
    training_data = training_data_of(fitted, "stage_averaged")
    assert training_data.bank is fitted.bank
    assert not np.allclose(
        training_data.labels_bank.edge.distribution.probabilities,
        fitted.bank.edge.distribution.probabilities,
    )
    # Logarithms of probabilities: their exponentials add up to one without a softmax.
    for logits in (
        training_data.labels_bank.edge.outputs,
        training_data.labels_bank.cloud_logits,
    ):
        np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_one_stage_is_the_final_epoch(toy_splits):
    fitted = fit_ddnn(toy_splits.train, toy_splits.val, SMALL, stages=1, epochs=2, verbose=0)
    labels_bank = training_data_of(fitted, "stage_averaged").labels_bank
    np.testing.assert_allclose(
        labels_bank.edge.distribution.probabilities,
        fitted.bank.edge.distribution.probabilities,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("augmented", "need a DDNN to ask; received its banks alone"),
        ("held_out", "need a DDNN to ask; received its banks alone"),
        ("cross_fitted", "need a DDNN to ask; received its banks alone"),
        ("stage_averaged", "stages ≥ 1; received stages=0"),
    ],
)
def test_banks_alone_cannot_judge_anew(fitted, source, message):
    with pytest.raises(ValueError, match=message):
        training_data_of(Banks(fitted.bank, fitted.val_bank), source)


def test_banks_alone_will_do_for_what_was_judged_before(fitted):
    banks = Banks(fitted.bank, fitted.val_bank, fitted.stages)
    assert training_data_of(banks, "final_epoch").labels_bank is fitted.bank
    np.testing.assert_array_equal(
        training_data_of(banks, "stage_averaged").labels_bank.cloud_logits,
        fitted.stages.outputs["cloud"],
    )


def test_cross_fitting_judges_every_sample_by_a_network_that_has_not_seen_it(
    fitted, trained, toy_splits
):
    labels_bank = training_data_of(fitted, "cross_fitted").labels_bank
    np.testing.assert_array_equal(labels_bank.index, np.arange(96))
    for fold, (seen, config) in enumerate(trained):
        judgement = fitted.fold(fold)
        assert len(seen) == 64
        assert not seen & {image.tobytes() for image in toy_splits.train.images[judgement.rows]}
        np.testing.assert_array_equal(
            labels_bank.cloud_logits[judgement.rows], judgement.outputs["cloud"]
        )
        assert (config.epochs, config.stages) == (2, 0)


def test_held_out_images_are_judged_by_the_first_network_of_cross_fitting(fitted, trained):
    few, labels_bank = (
        training_data_of(fitted, source).labels_bank for source in ("held_out", "cross_fitted")
    )
    assert set(few.index) < set(fitted.fold(0).rows)
    np.testing.assert_array_equal(few.cloud_logits, labels_bank.cloud_logits[few.index])
    assert len(trained) == FOLDS  # each was trained once, for all tests of this file


def test_a_head_sees_the_features_of_the_deployed_network_and_the_logits_of_the_fold(fitted):
    edge = training_data_of(fitted, "cross_fitted").bank.edge
    assert edge.features is fitted.bank.edge.features
    assert not np.allclose(edge.outputs, fitted.bank.edge.outputs)


@pytest.mark.parametrize(("epochs", "half"), [(1, 1), (2, 1), (3, 2), (22, 11)])
def test_a_fold_trains_half_the_epochs_of_the_deployed_network(epochs, half):
    config = DDNNConfig(epochs=epochs, stages=1, seed=7)
    assert fold_config(config) == DDNNConfig(epochs=half, stages=0, seed=7)


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2], 30)
    folds = fold_rows(labels, seed=0)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(90))
    for rest, held in folds:
        assert np.bincount(labels[held]).tolist() == [10, 10, 10]
        assert sorted([*rest, *held]) == list(range(90))


def test_judged_rows_come_in_the_order_of_the_bank(fitted):
    local, cloud = np.eye(2, 3, dtype=np.float32), 2 * np.eye(2, 3, dtype=np.float32)
    bank = Predictions(np.array([5, 3]), {"local": local, "cloud": cloud}).apply_to(fitted.bank)
    np.testing.assert_array_equal(bank.index, [3, 5])
    np.testing.assert_array_equal(bank.labels, fitted.bank.labels[[3, 5]])
    np.testing.assert_array_equal(bank.edge.inputs, fitted.bank.edge.inputs[[3, 5]])
    np.testing.assert_array_equal(bank.edge.features, fitted.bank.edge.features[[3, 5]])
    np.testing.assert_array_equal(bank.edge.outputs, [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(bank.cloud_logits, [[0, 2, 0], [2, 0, 0]])


def test_a_judgement_reads_as_it_was_written(fitted, tmp_path):
    fitted.stages.save(tmp_path / "stages.npz")
    read = Predictions.load(tmp_path / "stages.npz")
    np.testing.assert_array_equal(read.rows, fitted.stages.rows)
    assert [*read.outputs] == ["local", "cloud"]
    for name, array in fitted.stages.outputs.items():
        np.testing.assert_array_equal(read.outputs[name], array)
        assert read.outputs[name].dtype == array.dtype


def bank_with_accuracy(local, n=1000):
    """Return a bank whose local network is right on the first `local` · n, its cloud on 90%."""
    labels = np.zeros(n, int)
    right, wrong = [2.0, 0.0], [0.0, 2.0]
    answers = np.where((np.arange(n) < local * n)[:, None], right, wrong).astype(np.float32)
    cloud = np.where((np.arange(n) % 10 < 9)[:, None], right, wrong).astype(np.float32)
    edge = TierOutputs(answers, np.zeros((n, 1, 1, 1)), np.zeros((n, 1)))
    return two_tiers(edge, cloud, labels)


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


@pytest.mark.parametrize("knows", [True, False])
def test_a_network_that_knows_the_samples_before_its_training_is_told_of(knows, caplog):
    caplog.set_level("INFO")
    rows, labels = table_data(60)
    keras.utils.set_random_seed(1)
    network = chain({"local": table_model(), "cloud": table_model(64)})
    if knows:
        labels = np.argmax(network.model(rows)["cloud"], axis=1)
    fitted = fit_ddnn((rows, labels), None, epochs=1, batch_size=60, network=network, verbose=0)
    fitted.fold(0)
    told = "right in 100% of the training samples before this training" in caplog.text
    assert told == knows
