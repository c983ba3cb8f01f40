import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_ddnn.config import DDNNConfig
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.joint import compile_ddnn
from keras_ddnn.training.recipe.schedules import learning_rate_of

SMALL = DDNNConfig(
    local_filters=8,
    local_units=8,
    cloud_filters=((8,), (16,)),
    cloud_units=(16,),
    dropout=0.1,
    epochs=2,
    batch_size=16,
    precision="float32",
)


def fit(splits, **overrides):
    return fit_ddnn(splits.train, splits.val, SMALL, verbose=0, **overrides)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("tensorboard")


@pytest.fixture(scope="module")
def epochs_seen():
    """The epochs of `fitted` that a callback of the user has seen."""
    return []


@pytest.fixture(scope="module")
def fitted(toy_splits, logs, epochs_seen):
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: epochs_seen.append(epoch))
    return fit(toy_splits, epochs=6, learning_rate=1e-2, tensorboard=logs, callbacks=[note])


@pytest.fixture(scope="module")
def fitted_on_arrays(toy_splits):
    """A DDNN fitted on pixels from 0 to 1 and a list of labels, with nothing to validate on."""
    arrays = toy_splits.train.images / 255.0, toy_splits.train.labels.tolist()
    return fit_ddnn(arrays, config=SMALL, epochs=1, verbose=0)


@pytest.mark.slow
def test_batches_train_the_network_that_arrays_train(fitted_on_arrays, toy_splits):
    pairs = tf.data.Dataset.from_tensor_slices((toy_splits.train.images, toy_splits.train.labels))
    fitted = fit_ddnn(pairs.batch(50), config=SMALL, epochs=1, verbose=0)
    np.testing.assert_array_equal(fitted.bank.cloud_logits, fitted_on_arrays.bank.cloud_logits)
    again = fitted.capture(pairs.batch(7))
    np.testing.assert_array_equal(again.labels, fitted.bank.labels)
    np.testing.assert_array_equal(again.edge.local_logits, fitted.bank.edge.local_logits)
    assert len(capture(fitted.model, pairs.take(9).batch(5))) == 9
    for order, remedy in (
        (pairs.shuffle(96, seed=1).batch(50), "reshuffle_each_iteration=False"),
        (pairs.batch(50).repeat(), "an endless one"),
    ):
        with pytest.raises(ValueError, match=remedy):
            fitted.capture(order)
        with pytest.raises(ValueError, match=remedy):
            capture(fitted.model, order)


def test_both_networks_learn(fitted):
    assert fitted.val_bank.local_correct.mean() > 0.6
    assert fitted.val_bank.cloud_correct.mean() > 0.6


def test_the_bank_holds_what_the_final_networks_say(fitted, toy_splits):
    outputs = fitted.model.predict(toy_splits.train.images, verbose=0)
    np.testing.assert_allclose(fitted.bank.edge.outputs, outputs["local"], atol=1e-4)
    # The cloud reads float16 features in the bank, as it will from a device.
    np.testing.assert_allclose(fitted.bank.cloud_logits, outputs["cloud"], atol=0.02)
    assert fitted.bank.edge.features.dtype == np.float16
    assert fitted.bank.edge.inputs is toy_splits.train.images


def test_the_accuracies_of_the_bank_are_those_keras_reports(fitted, toy_splits):
    test = toy_splits.test
    keras_own = fitted.model.evaluate(
        test.images, {"local": test.labels, "cloud": test.labels}, verbose=0, return_dict=True
    )
    bank = fitted.capture(test)
    assert bank.local_correct.mean() == pytest.approx(keras_own["local_accuracy"])
    assert bank.cloud_correct.mean() == pytest.approx(keras_own["cloud_accuracy"])


def test_the_joint_loss_weighs_the_two_losses_by_lambda(fitted, toy_splits):
    compile_ddnn(fitted.model, DDNNConfig(lambda_local=0.3))
    val = toy_splits.val
    logs = fitted.model.evaluate(
        val.images,
        {"local": val.labels, "cloud": val.labels},
        batch_size=len(val),  # Keras averages the parts over batches, the whole over samples
        verbose=0,
        return_dict=True,
    )
    assert logs["loss"] == pytest.approx(0.3 * logs["local_loss"] + 0.7 * logs["cloud_loss"])


@pytest.mark.slow
def test_with_lambda_one_only_the_local_network_learns(toy_splits):
    trained = fit(toy_splits, lambda_local=1.0, epochs=1).model
    keras.utils.set_random_seed(SMALL.seed)
    started = build_ddnn(toy_splits.train.images.shape[1:], 3, SMALL)
    for name in ("cloud", "local"):
        before, after = (model.get_layer(name).kernel.numpy() for model in (started, trained))
        assert np.allclose(before, after, atol=1e-6) == (name == "cloud")


@pytest.mark.slow
def test_a_random_lambda_trains_both_networks(toy_splits):
    fitted = fit(toy_splits, lambda_local="random", epochs=6, learning_rate=1e-2)
    assert fitted.val_bank.local_correct.mean() > 0.6
    assert fitted.val_bank.cloud_correct.mean() > 0.6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network(toy_splits):
    first, again, other = (
        fit(toy_splits, augmentation="crop_flip", epochs=1, seed=seed).bank.cloud_logits
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_plain_arrays_and_pixels_from_0_to_1_will_do(fitted_on_arrays, toy_splits):
    assert fitted_on_arrays.val_bank is None
    np.testing.assert_array_equal(fitted_on_arrays.bank.edge.inputs, toy_splits.train.images)


def test_callbacks_of_the_user_are_called(fitted, epochs_seen):
    assert epochs_seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_bottleneck_is_put_in_on_the_way_and_callbacks_see_one_training(toy_splits):
    seen = []

    def note(epoch, logs):
        channels = callback.model.get_layer("features").output.shape[-1]
        seen.append((epoch, channels, callback.params["epochs"]))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=note)
    fitted = fit(toy_splits, bottleneck=2, epochs=4, stages=2, callbacks=[callback])
    assert seen == [(0, 8, 4), (1, 8, 4), (2, 2, 4), (3, 2, 4)]
    assert {len(values) for values in fitted.history.values()} == {4}
    assert fitted.bank.edge.features.shape[1:] == (4, 4, 2)
    assert fitted.config.epochs == 4
    np.testing.assert_allclose(np.exp(fitted.stages.outputs["local"]).sum(axis=1), 1.0, rtol=1e-3)


def test_the_one_cycle_schedule_warms_up_over_a_fifth_and_ends_at_zero():
    config = DDNNConfig(schedule="one_cycle", learning_rate=3e-3, epochs=10)
    rate = learning_rate_of(config, steps=10, monitor="loss").initial
    assert float(rate(0)) == 0.0
    assert float(rate(10)) == pytest.approx(1.5e-3)
    assert float(rate(20)) == pytest.approx(3e-3)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-9)


def test_the_plateau_schedule_watches_the_training_loss_without_validation_data(fitted_on_arrays):
    assert fitted_on_arrays.history["learning_rate"] == [pytest.approx(1e-3)]


def test_tensorboard_gets_losses_benefit_and_projector(fitted, logs):
    train, validation = (EventAccumulator(str(logs / n)) for n in ("train", "validation"))
    train_tags = set(train.Reload().Tags()["tensors"])
    assert {
        "epoch_local_loss",
        "epoch_cloud_accuracy",
        "epoch_learning_rate",
        "benefit/B_k",
        "benefit/threshold",
    } <= train_tags
    assert "benefit/B_k" in validation.Reload().Tags()["tensors"]
    header, *rows = (logs / "validation" / "metadata.tsv").read_text().splitlines()
    assert header.split("\t") == ["decision", "class", "B_k"]
    assert {row.split("\t")[0] for row in rows} == {"easy", "hard"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :, :, 0], y), "shape"),
        (lambda x, y: (np.full(x.shape, np.nan), y), "NaN"),
        (lambda x, y: (x, np.zeros_like(y)), "two classes"),
        (lambda x, y: (x[:0], y[:0]), "empty"),
        (lambda x, y: (x, y[:-1]), "label"),
    ],
)
def test_bad_data_end_before_any_training(toy_splits, monkeypatch, change, message):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("training began"))
    bad = change(toy_splits.train.images, toy_splits.train.labels)
    with pytest.raises(ValueError, match=message):
        fit_ddnn(bad, toy_splits.val, SMALL)


def test_a_validation_label_beyond_the_classes_is_refused(toy_splits):
    labels = toy_splits.val.labels + 1
    with pytest.raises(ValueError, match="val"):
        fit_ddnn(toy_splits.train, (toy_splits.val.images, labels), SMALL)


def test_images_of_two_sizes_are_refused(toy_splits):
    larger = np.zeros((48, 20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(16, 16, 3\) and \(20, 20, 3\)"):
        fit_ddnn(toy_splits.train, (larger, toy_splits.val.labels), SMALL)


def test_a_bank_is_the_same_whatever_the_number_of_samples_around(fitted, toy_splits):
    test = toy_splits.test
    whole = capture(fitted.model, test.images, test.labels)
    part = capture(fitted.model, test.images[:20], test.labels[:20])
    np.testing.assert_allclose(whole.cloud_logits[:20], part.cloud_logits, atol=1e-5)
