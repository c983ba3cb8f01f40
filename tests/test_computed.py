"""Feature maps and augmented views are made when something reads them, and not before."""

import numpy as np
import pytest
from conftest import toy_split, untrained_policy

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.data.rows import computed
from keras_ddnn.data.rows.computed import Computed, by_blocks, whole
from keras_ddnn.data.rows.view import Rows
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.rules.inputs import logits_features
from keras_ddnn.training import capture as capturing
from keras_ddnn.training.batches import VIEW_BATCH, augmented_views
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn

SQUARES = np.arange(1200) ** 2


@pytest.fixture
def squares():
    """Return the squares of 0..1199 as rows that are made, and what has been asked for."""
    asked = []

    def make(rows):
        asked.append(rows)
        return SQUARES[rows][:, None]

    return Rows(Computed((1200, 1), np.int64, make)), asked


def test_only_the_rows_that_are_asked_for_are_made(squares):
    rows, asked = squares
    assert (rows.shape, rows.dtype, asked) == ((1200, 1), np.int64, [])
    np.testing.assert_array_equal(rows[[7, 3]], [[49], [9]])
    assert [list(places) for places in asked] == [[3, 7]]


@pytest.mark.parametrize("most", [computed.MOST_IN_MEMORY, 1])
def test_the_whole_is_made_once_in_memory_or_in_a_file(squares, monkeypatch, most):
    monkeypatch.setattr(computed, "MOST_IN_MEMORY", most)
    rows, asked = squares
    for _ in range(2):
        np.testing.assert_array_equal(whole(rows)[:, 0], SQUARES)
    assert isinstance(whole(rows), np.memmap) == (most == 1)
    assert asked == [slice(0, 500), slice(500, 1000), slice(1000, 1500)]
    np.testing.assert_array_equal(rows[5:7], [[25], [36]])
    assert len(asked) == 3


def test_a_part_of_a_whole_is_read_from_it(squares):
    rows, asked = squares
    part = whole(rows.take(np.array([4, 2])))
    np.testing.assert_array_equal(np.asarray(part), [[16], [4]])
    assert len(asked) == 3


def test_a_function_sees_a_block_at_a_time(squares):
    seen = []
    doubled = by_blocks(squares[0], lambda block: seen.append(len(block)) or 2 * block)
    np.testing.assert_array_equal(doubled[:, 0], 2 * SQUARES)
    assert seen == [500, 500, 200]


@pytest.fixture(scope="module")
def network():
    return untrained_policy().cascade


@pytest.mark.parametrize("n", [7, 1300])
def test_features_are_those_that_the_cloud_has_read_in_every_bit(network, n):
    images = toy_split(n, 5).images
    bank = capture(network, images, np.zeros(n, int))
    few = np.arange(0, n, 3)
    part = bank.edge.features[few]
    features = np.asarray(bank.edge.features)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(part, features[few])
    cloud = network.folded().tiers[1].model
    logits = np.concatenate(
        [
            np.asarray(cloud(features[start : start + 500], training=False)["outputs"])
            for start in range(0, n, 500)
        ]
    )
    np.testing.assert_allclose(bank.cloud_logits, logits, atol=1e-6)


def test_pooled_features_are_those_of_the_whole_map(network):
    bank = capture(network, toy_split(600, 5).images, np.zeros(600, int))
    there = bank.with_features(np.asarray(bank.edge.features))
    np.testing.assert_array_equal(logits_features(bank.edge), logits_features(there.edge))


def test_views_are_the_same_in_whatever_order_they_are_read():
    images = toy_split(VIEW_BATCH + 100, 2, shape=(16, 16, 1)).images
    views = augmented_views(images, "crop_flip", views=2, seed=0)
    assert views.shape == (2 * len(images), 16, 16, 1)
    there = views[:]
    rows = np.random.default_rng(0).permutation(len(views))[:50]
    np.testing.assert_array_equal(views[rows], there[rows])
    assert (there[: len(images)] != there[len(images) :]).any(axis=(1, 2, 3)).mean() > 0.9


@pytest.fixture
def passed(monkeypatch):
    """Return how many samples each run of a network has been given."""
    runs = []
    run_in_batches = capturing.run_in_batches

    def counted(step, array, buckets=()):
        runs.append(len(array))
        return run_in_batches(step, array, buckets)

    monkeypatch.setattr(capturing, "run_in_batches", counted)
    return runs


@pytest.mark.slow
def test_the_local_part_runs_once_per_split_unless_a_head_reads_features(toy_splits, passed):
    config = DDNNConfig(
        epochs=1, local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,), batch_size=32
    )
    fitted = fit_ddnn(toy_splits.train, toy_splits.val, config, verbose=0)
    fitted.capture(toy_splits.test)
    assert passed == [96, 48, 60]
    head = {"epochs": 1, "batch_size": 32}
    fit_head(fitted, HeadConfig(input="logits_rich", anchored=True, **head))
    fit_head(fitted, HeadConfig(input="image", **head))
    assert passed == [96, 48, 60]
    for _ in range(2):
        fit_head(fitted, HeadConfig(input="features", **head))
    assert passed == [96, 48, 60, 96, 48]
