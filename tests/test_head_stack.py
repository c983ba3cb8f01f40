"""Heads trained together are those that training each alone would give."""

from dataclasses import replace

import numpy as np
import pytest
from test_heads import bank_with_a_secret, plain

from keras_ddnn.config import HeadConfig
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.heads.stack import fit_heads
from keras_ddnn.labels.sources import Banks


@pytest.fixture(scope="module")
def banks():
    return Banks(bank_with_a_secret(seed=0), bank_with_a_secret(seed=1))


def members(*differences, **fields):
    return [plain(epochs=2, precision="float32", **fields, **own) for own in differences]


MEMBERS = {
    "vectors": members(
        {"local_fraction": 0.3},
        {"loss": "weighted_bce", "local_fraction": 0.8},
        {"loss": "focal", "patience": 1},
        {"target": "benefit", "loss": "huber"},
    ),
    "deep": members({"loss": "bce"}, {"loss": "focal"}, depth=3, target="correctness"),
    "maps": members({"local_fraction": 0.4}, {"local_fraction": 0.7}, input="features"),
    "of the paper": members({"cost": "margin"}, {"cost": "zero_one"}, architecture="paper_mlp"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maps", "vectors", "deep", "of the paper"])
def test_every_member_is_the_head_that_it_would_be_alone(banks, name):
    configs = MEMBERS[name]
    together = fit_heads(banks, configs)
    edge = banks.val_bank.edge
    for head, config in zip(together, configs):
        twin = fit_head(banks, config)
        assert head.config == twin.config
        np.testing.assert_allclose(head.score(edge), twin.score(edge), atol=2e-3)
        assert head.history.keys() == twin.history.keys()
        for metric, values in twin.history.items():
            np.testing.assert_allclose(head.history[metric], values, atol=5e-3, err_msg=metric)


@pytest.mark.slow
def test_the_mean_over_members_with_dropout_is_near_their_twins(banks):
    configs = [plain(input="features", dropout=0.3, local_fraction=f) for f in (0.5, 0.6, 0.7)]
    twins = [max(fit_head(banks, config).history["val_audc"]) for config in configs]
    together = [max(head.history["val_audc"]) for head in fit_heads(banks, configs)]
    assert np.mean(together) == pytest.approx(np.mean(twins), abs=0.02)


@pytest.mark.slow
def test_heads_that_cannot_share_a_batch_are_trained_apart_and_in_their_places(banks):
    conv = plain(epochs=1, input="features", architecture="conv", precision="float32")
    deep, plain_one, hard = plain(epochs=1, depth=2), plain(epochs=1), plain(epochs=1, loss="focal")
    heads = fit_heads(banks, [conv, plain_one, deep, hard])
    assert [head.config.architecture for head in heads] == ["conv", "mlp", "mlp", "mlp"]
    assert [head.config.depth for head in heads] == [1, 1, 2, 1]
    edge = banks.val_bank.edge
    for place, config in ((0, conv), (2, deep)):
        alone = fit_head(banks, config)
        np.testing.assert_array_equal(heads[place].score(edge), alone.score(edge))


def test_anchors_are_each_members_own(banks):
    config = plain(input="features", epochs=3, local_fraction=0.7, anchored=True)
    head, free = fit_heads(banks, [config, replace(config, anchored=False)])
    assert head.anchor.weight > 0
    assert free.anchor is None


@pytest.mark.parametrize(
    "config", [HeadConfig(input="features", architecture="conv"), plain(oversample=True)]
)
def test_convolutions_and_oversampling_are_never_stacked(config):
    assert config.stack_key() is None


def test_nothing_to_train_is_no_head(banks):
    assert fit_heads(banks, []) == []
