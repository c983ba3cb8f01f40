"""Toy data whose arithmetic a reader can check by hand."""

import gc
import os
import shutil
import tempfile
from configparser import ConfigParser
from pathlib import Path

# A test asks for the same result twice, and CI shows no C++ start-up notices.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# Two processes share the cores: threads of OpenMP and BLAS spin while they wait for one that does
# not run, and a fit of small trees takes many times the time of one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Decoded images are kept as long as the tests run.
os.environ["KERAS_DDNN_CACHE"] = tempfile.mkdtemp(prefix="keras_ddnn_cache_")

import numpy as np
import pytest

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import Split, Splits
from keras_ddnn.data.tier_outputs import TierOutputs


def two_tiers(edge, cloud_logits, labels, index=None) -> Bank:
    """Return the bank of a device and a cloud."""
    return Bank({"local": edge, "cloud": TierOutputs(cloud_logits)}, labels, index=index)


def bank_of(local_probabilities, cloud_probabilities, labels) -> Bank:
    """Return a bank whose softmax gives exactly these probabilities, with 2×2×1 features."""
    labels = np.asarray(labels)
    local, cloud = (
        np.log(np.asarray(p, float)) for p in (local_probabilities, cloud_probabilities)
    )
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(labels), 2, 2, 1)).astype(np.float16)
    images = rng.integers(0, 256, (len(labels), 16, 16, 3), dtype=np.uint8)
    edge = TierOutputs(local.astype(np.float32), features, images)
    return two_tiers(edge, cloud.astype(np.float32), labels)


def outcomes(local_correct, cloud_correct) -> Bank:
    """Return a bank of two classes whose networks are right where asked."""
    p_local, p_cloud = (np.where(c, 0.9, 0.1) for c in (local_correct, cloud_correct))
    return bank_of(
        np.stack([p_local, 1 - p_local], axis=1),
        np.stack([p_cloud, 1 - p_cloud], axis=1),
        np.zeros(len(p_local), int),
    )


def random_outcomes(n) -> Bank:
    """Return n samples, of which the local network has 60% right and the cloud 80%."""
    rng = np.random.default_rng(3)  # not the seed of `Random`, whose scores would then know them
    return outcomes(rng.random(n) < 0.6, rng.random(n) < 0.8)


LONGEST = (
    "search",
    "any_network",
    "heads",
    "artifact",
    "views",
    "user_labels",
    "modern_study",
    "other_tasks",
    "named_networks",
    "edge",
    "training",
    "head_stack",
    "pipeline",
    "labels",
    "paper",
    "cuts",
    "export",
    "cloud_graph",
    "edge_command",
)


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that two processes end together."""
    files = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda item: [*files, item.path.name].index(item.path.name))


def pytest_unconfigure():
    shutil.rmtree(os.environ["KERAS_DDNN_CACHE"], ignore_errors=True)


def pytest_collection_finish():
    """Leave what is imported out of the search for garbage, which Keras asks for again and again.

    TensorFlow alone makes a million objects, none of which a test frees; and a network that is
    traced makes thousands, among which a search is seldom worth its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture
def four_cases() -> Bank:
    """The oracle's four cases, one sample each; the true class is always 0.

    | sample | p_local[0] | p_cloud[0] | who is right | B_k  |
    |--------|------------|------------|--------------|------|
    | 0      | 0.2        | 0.9        | cloud        | 0.7  |
    | 1      | 0.8        | 0.3        | local        | -0.5 |
    | 2      | 0.6        | 0.7        | both         | 0.1  |
    | 3      | 0.4        | 0.1        | neither      | -0.3 |
    """
    local, cloud = np.array([0.2, 0.8, 0.6, 0.4]), np.array([0.9, 0.3, 0.7, 0.1])
    return bank_of(
        np.stack([local, 1 - local], axis=1), np.stack([cloud, 1 - cloud], axis=1), [0, 0, 0, 0]
    )


def flip_a_bit(path):
    """Damage a file as a worn-out disk would."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    """Damage a file as a full disk would."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def toy_split(n, seed, num_classes=3, shape=(16, 16, 3)) -> Split:
    """Return n images of noise, brighter the higher the class."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    images = rng.normal(60 + 60 * labels[:, None, None, None], 50, (n, *shape))
    return Split(images.clip(0, 255).astype(np.uint8), labels)


@pytest.fixture(scope="session")
def toy_splits() -> Splits:
    """Three classes of bright and dark noise that a network learns in an epoch or two."""
    return Splits("toy", toy_split(96, 0), toy_split(48, 1), toy_split(60, 2), ("a", "b", "c"))


def untrained_policy(shape=(16, 16, 3), **fields):
    """Return an untrained policy on images of three classes that offloads half of them."""
    import keras

    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Margin
    from keras_ddnn.training.capture import capture

    keras.utils.set_random_seed(0)
    small = {"local_filters": 4, "cloud_filters": ((4,), (8,)), "cloud_units": (8,)}
    config = DDNNConfig(precision="float32", **(small | fields))
    model, split = build_ddnn(shape, 3, config), toy_split(100, 3, shape=shape)
    scores = Margin().score(capture(model, split.images, split.labels).edge)
    return OffloadPolicy(model, config, Margin(), float(np.median(scores)), ("a", "b", "c"))


@pytest.fixture(scope="session")
def toy_policy():
    """Return an `untrained_policy`, to be read only."""
    return untrained_policy()


@pytest.fixture(scope="session")
def toy_artifact(toy_policy, tmp_path_factory):
    """Return the folder of a whole artefact of `toy_policy`, to be read only."""
    from keras_ddnn.deploy.artifact import save_policy
    from keras_ddnn.training.capture import capture

    split = toy_split(100, 3)
    folder = tmp_path_factory.mktemp("toy") / "artifact"
    bank = capture(toy_policy.model, split.images, split.labels)
    save_policy(toy_policy, folder, val_bank=bank)
    return folder


@pytest.fixture(scope="session")
def setup():
    """Return what `setup.cfg` says."""
    parser = ConfigParser()
    parser.read(Path(__file__).parent.parent / "setup.cfg")
    return parser
