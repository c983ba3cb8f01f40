"""A network that learns what another one says: its targets, its batches, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_checkpoint import Kill, KilledError
from toy_networks import image_data, image_model, table_data, table_model

import keras_ddnn
from keras_ddnn.config import DDNNConfig
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.datasets import Split, Splits, as_split
from keras_ddnn.networks.architectures.modern import ModernOptions, build_modern
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.tasks.prices import PricedClasses
from keras_ddnn.tasks.regression import Regression
from keras_ddnn.training.batches import training_batches
from keras_ddnn.training.checkpoint import Checkpoint
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.joint import joint_batches
from keras_ddnn.training.recipe.teacher import Teacher
from keras_ddnn.training.trainable import start_whitening

TABLE, LABELS = table_data(60)


def model(seed=0):
    keras.utils.set_random_seed(seed)
    return table_model()


def recipe(**fields):
    given = {"epochs": 4, "batch_size": 16, "precision": "float32", "schedule": "linear"}
    return DDNNConfig(**given | fields)


def table_split(n, seed=0):
    rows, labels = table_data(n, seed)
    return Split(rows.astype(np.float32), labels, Classes((0, 1, 2)))


def said_by(network, data=TABLE):
    return np.asarray(network(data, training=False))


def softmax(logits):
    return np.asarray(keras.ops.softmax(logits))


def test_batches_come_again_after_a_period_with_the_numbers_of_before():
    def numbered(batch, seed):
        return batch[0], seed[1]

    batches = training_batches((np.arange(10),), 5, 0, numbered, period=4)
    seen = [(rows.numpy().tolist(), int(number)) for rows, number in batches.take(10)]
    assert [number for _, number in seen] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert seen[4:8] == seen[:4]
    assert seen[:2] != seen[2:4]  # two epochs, each in an order of its own
    later = training_batches((np.arange(10),), 5, 0, numbered, first=7, period=4)
    assert [(rows.numpy().tolist(), int(n)) for rows, n in later.take(3)] == seen[7:10]


def test_targets_are_what_the_teacher_says_of_the_very_rows_and_views():
    images, labels = image_data(48)
    teaching = chain({"cloud": image_model()})
    train, config = as_split(images, labels), recipe(augmentation="crop_flip", epochs=5)
    lessons = Teacher(teaching, temperature=2.0, passes=2).lessons(train, config)
    assert len(lessons) == 2 * 3
    batches = joint_batches(train, config, outputs=["cloud"], lessons=lessons)
    for views, targets in batches.take(9):  # goes through the kept ones once and a half
        expected = softmax(said_by(lambda x, training: teaching.model(x)["cloud"], views) / 2.0)
        np.testing.assert_allclose(targets["cloud"], expected, atol=1e-3)


def taught(data, network, teacher, **fields):
    given = {"epochs": 60, "learning_rate": 0.03} | fields
    return fit_ddnn(data, data, recipe(**given), network=network, teacher=teacher, verbose=0)


def test_a_student_comes_to_say_what_its_teacher_says_and_not_the_labels():
    teacher, wrong = model(1), (LABELS + 1) % 3
    teacher.layers[-1].set_weights([3 * w for w in teacher.layers[-1].get_weights()])
    fitted = taught((TABLE, wrong), chain({"cloud": model(2)}), Teacher(teacher, 1.0, passes=1))
    answers = fitted.bank.tiers["cloud"].outputs.argmax(axis=1)
    assert (answers == said_by(teacher).argmax(axis=1)).mean() > 0.9
    assert fitted.history["accuracy"][-1] > 0.8
    # Validation has the labels still.
    right = (answers == wrong).mean()
    assert fitted.history["val_accuracy"][-1] == pytest.approx(right, abs=0.05)
    with pytest.raises(ValueError, match=r"labels of folds .* teacher that has seen it"):
        fitted.fold(0)


@pytest.mark.slow
def test_all_exits_learn_from_the_last_tier_of_a_teacher():
    images, labels = image_data(48)
    teaching = chain({"local": image_model(8), "cloud": image_model()})
    network = split(image_model(), "block_0_project_BN")
    fields = {"epochs": 2, "augmentation": "flip", "lambda_local": "random"}
    fitted = taught((images, labels), network, Teacher(teaching), **fields)
    assert {"local_accuracy", "cloud_accuracy", "val_cloud_loss"} < {*fitted.history}


def test_a_taught_training_goes_on_where_it_was_killed(tmp_path):
    teacher, network = Teacher(model(1), passes=2), chain({"cloud": model(2)})

    def fitted(kill):
        return fit_ddnn(
            (TABLE, LABELS),
            None,
            recipe(epochs=5),
            network=network,
            teacher=teacher,
            callbacks=[kill],
            checkpoint=Checkpoint(file, seconds=0),
            verbose=0,
        )

    file = tmp_path / "a.training"
    with pytest.raises(KilledError):
        fitted(Kill(3, 1))
    assert file.exists()
    rest, all_of_it = Kill(9, 0), Kill(9, 0)
    again, whole = fitted(rest), fitted(all_of_it)
    assert (rest.seen[0], all_of_it.seen[0]) == (3, 0)
    assert len(again.history["loss"]) == 5
    assert again.history == whole.history
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 0.0}, "temperature must be"),
        ({"passes": 0}, "passes must be a positive integer"),
    ],
)
def test_a_teacher_of_bad_numbers_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Teacher(model(), **given)


def test_a_teacher_of_other_data_is_refused_before_the_training():
    learning, images = chain({"cloud": model(2)}), Teacher(image_model())
    with pytest.raises(ValueError, match=r"teacher: expected a network of the data, \(6,\) → 3"):
        taught((TABLE, LABELS), learning, images)
    broken = model(1)
    broken.set_weights([w * np.nan for w in broken.get_weights()])
    with pytest.raises(ValueError, match="teacher: expected finite logits"):
        taught((TABLE, LABELS), learning, broken)
    two = Teacher(chain({"cloud": image_model()}))
    with pytest.raises(ValueError, match=r"→ 2 classes, received .* → 3 classes"):
        taught((image_data(12)[0], np.arange(12) % 2), None, two)
    numbers = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    of_numbers = chain({"cloud": numbers}, task=Regression())
    with pytest.raises(ValueError, match="teacher: expected networks of classes"):
        taught((TABLE, LABELS.astype(float)), of_numbers, Teacher(model()))
    waiting = build_modern((16, 16, 3), 3, ModernOptions(widths=(4, 6)), "float32")
    with pytest.raises(ValueError, match="whitening take their weights from training data"):
        taught(image_data(12), chain({"cloud": image_model()}), Teacher(waiting))


def test_a_network_is_a_teacher_and_what_is_none_is_named(caplog):
    caplog.set_level("INFO")
    network = model(1)
    loud = chain({"cloud": keras.Model(network.input, 1e6 * network.output)})
    told = Teacher(loud, passes=1).lessons(table_split(60), recipe(batch_size=20))
    for targets in tf.data.Dataset.range(3).map(told.targets):
        np.testing.assert_allclose(np.sum(targets, axis=1), 1.0, atol=1e-5)
    right = (said_by(network).argmax(axis=1) == LABELS).mean()
    assert f"gives the label of {right:.1%}" in caplog.text
    assert Teacher.of(network).temperature == Teacher(network).temperature
    for other in ("modern_large", fit_ddnn):
        kind = type(other).__name__
        with pytest.raises(ValueError, match=rf"teacher: expected a Cascade.* received {kind}"):
            taught((TABLE, LABELS), chain({"cloud": model(2)}), other)
    two = chain({"local": model(1), "cloud": model(2)}).model
    with pytest.raises(ValueError, match=r"fitted\.cascade.* received a model of 2 outputs"):
        Teacher(two)


def test_where_mistakes_have_prices_probabilities_are_learned_as_they_are():
    priced = chain({"cloud": model(2)}, task=PricedClasses(1 - np.eye(3)))
    train = table_split(60)
    with pytest.raises(ValueError, match=r"expected 1\.0 where mistakes have prices"):
        Teacher(model(1)).require_fits(priced, train)
    Teacher(model(1), temperature=1.0).require_fits(priced, train)


def table_splits():
    return Splits("toy", *(table_split(n, seed=n) for n in (60, 30, 30)), ("a", "b", "c"))


def two_tables():
    return chain({"local": model(2), "cloud": model(3)})


def test_labels_of_folds_of_a_taught_network_are_refused_before_the_training():
    heads = {"head": keras_ddnn.HeadConfig(labels="cross_fitted")}
    given = {"network": two_tables(), "teacher": model(1), "verbose": 0}
    with pytest.raises(ValueError, match="labels of folds need networks"):
        keras_ddnn.run(table_splits(), recipe(), heads, **given)


@pytest.mark.slow
def test_one_call_leads_from_a_teacher_to_a_policy():
    splits, teacher = table_splits(), model(1)
    given = {"network": two_tables(), "teacher": Teacher(teacher, 1.0), "verbose": 0}
    longer = recipe(epochs=60, learning_rate=0.03)
    _, policy = keras_ddnn.run(splits, longer, **given)
    answers = policy.predict(splits.test.images)[0]
    assert (answers == said_by(teacher, splits.test.images).argmax(axis=1)).mean() > 0.8


def test_an_ensemble_teaches():
    images, labels = image_data(48)
    both = keras_ddnn.ensemble([image_model(), image_model()])
    said = Teacher(both, passes=1).lessons(as_split(images, labels), recipe()).logits
    assert said.shape == (1 * 3, 16, 3)
    assert np.ptp(said) > 0


def test_a_network_of_today_teaches_by_faster_operations_and_stays_what_it_was():
    images, labels = image_data(48)
    teaching = chain(
        {"cloud": build_modern((16, 16, 3), 3, ModernOptions(widths=(4, 6)), "float32")}
    )
    start_whitening(teaching.model, images)
    train = as_split(images, labels)
    said = Teacher(teaching, passes=1).lessons(train, recipe()).logits
    batches = [rows for rows, _ in joint_batches(train, recipe()).take(3)]
    expected = [teaching.model(rows, training=False)["cloud"] for rows in batches]
    np.testing.assert_allclose(said, expected - np.max(expected, -1, keepdims=True), atol=1e-2)
    assert np.ptp(said) > 0.1
    assert not any(getattr(layer, "always_kernel", False) for layer in teaching.model.layers)
