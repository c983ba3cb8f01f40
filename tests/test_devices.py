"""A network trained on two devices, logical ones of the CPU, and on one."""

import json
import os
import subprocess
import sys

import pytest

from keras_ddnn.training import devices
from keras_ddnn.training.devices import strategy_of

# A process of its own: logical devices are chosen before TensorFlow starts.
TRAIN_ON_BOTH = """
import json
import keras
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras import layers
from keras_ddnn.config import DDNNConfig
from keras_ddnn.networks.compose import split
from keras_ddnn.training.fit import fit_ddnn
from tests.conftest import toy_split

images = keras.Input((16, 16, 3))
x = layers.Conv2D(4, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(images))
x = layers.Dense(8, activation="relu")(layers.GlobalAveragePooling2D()(x))
keras.utils.set_random_seed(0)
plain = split(keras.Model(images, layers.Dense(3)(x)), "conv")
config = DDNNConfig(
    local_filters=8, local_units=8, cloud_filters=((4,), (4,)), cloud_units=(8,), dropout=0.1,
    epochs=2, batch_size=16, augmentation="crop_flip", lambda_local="random", stages=1,
)
train, val = toy_split(96, 0), toy_split(48, 1)

def fit(devices, **options):
    fitted = fit_ddnn(train, val, config, devices=devices, verbose=0, **options)
    said = [fitted.model.distribute_strategy.num_replicas_in_sync, fitted.history]
    bank = fitted.val_bank
    outputs = [bank.tiers[name].outputs.tolist() for name in ("local", "cloud")]
    return [*said, outputs, float(bank.local_correct.mean()), float(bank.cloud_correct.mean())]

said = {devices: fit(devices, network=plain) for devices in ("one", "all")}
learn = {"lambda_local": 0.5, "augmentation": "none", "learning_rate": 0.01, "epochs": 6}
for change in CHANGES:
    said[json.dumps(change)] = fit("all", **learn, **change)
print(json.dumps(said))
"""


def trained(*changes):
    """Train a plain network on one device and on two, and the paper's on two; what they say."""
    code = TRAIN_ON_BOTH.replace("CHANGES", repr(changes))
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | threads | {"PYTHONPATH": "."},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_have_the_losses_of_one_to_rounding():
    said = trained()
    (one, losses, outputs, *_), (two, twice, spread, *_) = said["one"], said["all"]
    assert (one, two) == (1, 2)
    for name, values in losses.items():
        assert twice[name] == pytest.approx(values, rel=1e-5)
    for tier, other in zip(outputs, spread, strict=True):
        assert other == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in tier]


@pytest.mark.slow
def test_batch_statistics_dropout_and_a_bottleneck_learn_on_two_devices():
    changes = ({"precision": "float32"}, {"precision": "bfloat16", "bottleneck": 4})
    said = trained(*changes)
    for change in changes:
        replicas, _, _, local, cloud = said[json.dumps(change)]
        assert replicas == 2
        assert min(local, cloud) > 0.9  # 1.0 on one device


def test_one_device_alone_is_no_all():
    with pytest.raises(
        ValueError, match="several GPUs, or several logical CPU devices; received 1"
    ):
        strategy_of("all")


def test_several_gpus_are_all_taken_and_one_is_taken_as_it_is(monkeypatch):
    class Device:
        def __init__(self, name):
            self.name = name

    gpus = [Device("GPU:0")]
    monkeypatch.setattr(devices.tf.config, "list_logical_devices", lambda kind: gpus)
    monkeypatch.setattr(devices, "_mirrored", lambda names: names)
    alone = strategy_of("auto")
    assert alone.num_replicas_in_sync == 1
    gpus.append(Device("GPU:1"))
    assert strategy_of("auto") == ("GPU:0", "GPU:1")
    assert strategy_of("one").num_replicas_in_sync == 1
