"""A training that is interrupted goes on and ends as it would have ended."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.heads.co_training import CoTrainedHead
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.training.checkpoint import Checkpoint
from keras_ddnn.training.fit import fit_ddnn
from keras_ddnn.training.saved_state import address_of_training, read_state, write_state
from tests.conftest import flip_a_bit, truncate

# 96 images in batches of 16: six steps an epoch.
SMALL = DDNNConfig(
    local_filters=8,
    local_units=8,
    cloud_filters=((4,), (4,)),
    cloud_units=(8,),
    dropout=0.2,
    epochs=4,
    batch_size=16,
    augmentation="crop_flip",
    lambda_local="random",
    precision="float32",
    stages=3,
    learning_rate=0.01,
)


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a training by an exception once a step of an epoch is done."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at, self.seen = (epoch, step), []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.epoch)
        if (self.epoch, batch + 1) == self.at:
            raise KilledError

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


NEVER = (None, None)


def fit(splits, kill=NEVER, more=(), **options):
    callbacks = [Kill(*kill), *more]
    fitted = fit_ddnn(splits.train, splits.val, SMALL, verbose=0, callbacks=callbacks, **options)
    return fitted, callbacks[0].seen


def killed(splits, kill, file, **options):
    """Train until the kill, with the state saved after every step, or after epochs alone."""
    with pytest.raises(KilledError):
        fit(splits, kill, checkpoint=Checkpoint(file, seconds=0), **options)
    assert file.exists()


def require_same(one, other):
    for ours, theirs in zip(one.model.variables, other.model.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert one.history == other.history
    for name in ("local", "cloud"):
        np.testing.assert_array_equal(one.bank.tiers[name].outputs, other.bank.tiers[name].outputs)
        np.testing.assert_array_equal(one.stages.outputs[name], other.stages.outputs[name])


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_not(toy_splits, tmp_path):
    file = tmp_path / "state"
    whole, _ = fit(toy_splits)
    killed(toy_splits, (2, 4), file)
    resumed, seen = fit(toy_splits, checkpoint=Checkpoint(file, seconds=0))
    require_same(whole, resumed)
    assert seen == [2] * 3 + [3] * 6  # the state is saved after the callback that kills
    assert not file.exists()


@pytest.mark.slow
def test_a_training_killed_in_each_of_its_parts_ends_as_one_that_was_not(toy_splits, tmp_path):
    """The bottleneck, another network, is put in before the third epoch."""
    file, options = tmp_path / "state", {"bottleneck": 4}
    whole, _ = fit(toy_splits, **options)
    killed(toy_splits, (1, 3), file, **options)
    killed(toy_splits, (2, 4), file, **options)
    resumed, seen = fit(toy_splits, checkpoint=Checkpoint(file, seconds=0), **options)
    require_same(whole, resumed)
    assert seen == [2] * 3 + [3] * 6  # the state is saved after the callback that kills
    assert not file.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill", "change"),
    [((2, 1), {"schedule": "plateau"}), ((2, 4), {"bottleneck": 4}), ((1, 6), {})],
)
def test_schedules_of_both_kinds_go_on(toy_splits, tmp_path, kill, change):
    options = {"schedule": "one_cycle"} | change
    whole, _ = fit(toy_splits, **options)
    killed(toy_splits, kill, tmp_path / "state", **options)
    resumed, _ = fit(toy_splits, checkpoint=tmp_path / "state", **options)
    require_same(whole, resumed)


@pytest.mark.slow
def test_a_head_trained_along_goes_on(toy_splits, tmp_path):
    def along():
        config = HeadConfig(input="logits", labels="final_epoch", dropout=0.5)
        return CoTrainedHead(toy_splits.train, toy_splits.val, config, start=1)

    whole, resumed, file = along(), along(), tmp_path / "state"
    fit(toy_splits, more=[whole])
    killed(toy_splits, (3, 2), file, more=[along()])
    fit(toy_splits, more=[resumed], checkpoint=file)
    for ours, theirs in zip(whole.head.model.weights, resumed.head.model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert whole.head.anchor == resumed.head.anchor


STATE = {
    "address": "this",
    "place": [3, 2],
    "rate": None,
    "history": {"loss": [1.5, 1.25, float("inf")]},
    "callbacks": [{"best": np.arange(3.0)}, {}],
}


def test_a_state_is_read_as_it_was_written(tmp_path):
    write_state(tmp_path / "state", STATE)
    read = read_state(tmp_path / "state")
    assert read["history"] == STATE["history"]
    np.testing.assert_array_equal(read["callbacks"][0]["best"], [0.0, 1.0, 2.0])
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.find("this")
    checkpoint.begin(0, 5)
    assert checkpoint.place == (3, 2)
    assert checkpoint.steps_done(steps=10) == 32


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip_a_bit, "damaged"),
        (truncate, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (
            lambda path: write_state(path, STATE | {"address": "that"}),
            "other data, options, callbacks or",
        ),
        (lambda path: write_state(path, {"address": "this"}), "damaged"),
    ],
)
def test_a_state_that_cannot_be_used_is_set_aside(tmp_path, caplog, spoil, why):
    file = tmp_path / "state"
    write_state(file, STATE)
    spoil(file)
    checkpoint = Checkpoint(file)
    checkpoint.find("this")
    checkpoint.begin(0, 5)
    assert checkpoint.place == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["state.damaged"]
    (line,) = caplog.messages
    assert why in line
    assert "begun new" in line


def test_every_flipped_byte_of_a_state_is_noticed_or_changes_nothing(tmp_path):
    file = tmp_path / "state"
    write_state(file, STATE)
    whole, expected = file.read_bytes(), repr(read_state(file))
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            assert repr(read_state(file)) == expected
        except AssertionError:
            raise
        except Exception:
            continue


def test_an_address_is_that_of_data_options_and_network(toy_splits):
    def address(config=SMALL, train=toy_splits.train, callbacks=()):
        keras.backend.clear_session()
        keras.utils.set_random_seed(config.seed)
        model = build_ddnn((16, 16, 3), 3, config)
        return address_of_training(model, config, (train, toy_splits.val), callbacks)

    labels = toy_splits.train.labels.copy()
    labels[-1] = (labels[-1] + 1) % 3
    others = [
        address(replace(SMALL, epochs=5)),
        address(replace(SMALL, seed=1)),
        address(train=replace(toy_splits.train, labels=labels)),
        address(callbacks=[keras.callbacks.TerminateOnNaN()]),
    ]
    assert address() == address()
    assert len({address(), *others}) == 5


def test_a_full_disk_does_not_end_the_training(tmp_path, caplog):
    checkpoint = Checkpoint(tmp_path / "file" / "state", seconds=0)
    (tmp_path / "file").write_text("no folder")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    checkpoint.begin(0, 1)
    callbacks = checkpoint.around([])
    model.fit(np.zeros((4, 1)), np.zeros(4), batch_size=2, callbacks=callbacks, verbose=0)
    assert "cannot be saved" in caplog.text


def test_a_callback_that_begins_anew_is_named(tmp_path, caplog):
    class Own(keras.callbacks.Callback):
        pass

    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.find("this")
    checkpoint.begin(0, 1)
    checkpoint.around([Own(), keras.callbacks.ReduceLROnPlateau()])
    checkpoint.on_train_begin()
    assert caplog.messages == ["Own has no get_state and set_state: it begins anew after a kill"]
