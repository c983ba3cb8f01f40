from dataclasses import replace
from typing import get_args

import keras
import numpy as np
import pytest
from conftest import two_tiers

from keras_ddnn.config import DDNNConfig, HeadArchitecture, HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.heads.architectures import build_head
from keras_ddnn.heads.co_training import CoTrainedHead
from keras_ddnn.heads.fit import HeadRule, fit_head
from keras_ddnn.labels.predictions import Predictions
from keras_ddnn.labels.sources import Banks
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.rules.inputs import HEAD_INPUTS
from keras_ddnn.training.fit import fit_ddnn


def plain(**fields) -> HeadConfig:
    """Return a config of one logit that ranks alone, without dropout, but for the given fields."""
    return HeadConfig(
        **{"input": "logits", "target": "hard", "anchored": False, "dropout": 0.0} | fields
    )


def bank_with_a_secret(n=600, seed=0) -> Bank:
    """Return a bank whose first feature channel tells, noisily, whether the cloud will be right.

    The local network says class 0 with a confidence that has nothing to do with it.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    secret = rng.random(n) < 0.5
    local = np.stack([rng.uniform(0.5, 2.0, n), np.zeros(n)], axis=1).astype(np.float32)
    cloud = np.where(secret, labels, 0)
    cloud_logits = (4.0 * np.eye(2)[cloud]).astype(np.float32)
    features = rng.normal(0, 0.5, (n, 8, 8, 2))
    features[..., 0] += (secret & (labels == 1))[:, None, None]
    images = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    edge = TierOutputs(local, features.astype(np.float16), images)
    return two_tiers(edge, cloud_logits, labels)


@pytest.fixture(scope="module")
def banks():
    return Banks(bank_with_a_secret(seed=0), bank_with_a_secret(seed=1))


def apgr(rule, bank):
    return OffloadCurve.from_scores(rule.score(bank.edge), bank).apgr


@pytest.fixture(scope="module")
def knowing(banks):
    return fit_head(banks, plain(input="features", local_fraction=0.7))


@pytest.mark.slow
def test_a_head_finds_in_the_features_what_confidence_cannot_know(banks, knowing):
    assert apgr(knowing, bank_with_a_secret(seed=2)) > 0.75
    blind = fit_head(banks, plain(local_fraction=0.7))
    assert apgr(blind, bank_with_a_secret(seed=2)) == pytest.approx(0.5, abs=0.15)


def test_a_head_learns_from_the_judge_that_its_config_names(banks):
    """The bank's own cloud is the local network again, so that there is nothing to learn of it."""
    bank = banks.bank
    judgement = Predictions.of(bank.index, bank)
    blind = bank.with_outputs(dict.fromkeys(bank.tiers, bank.edge.outputs))
    config = plain(input="features", local_fraction=0.7, labels="stage_averaged")
    taught = fit_head(Banks(blind, banks.val_bank, judgement), config)
    assert apgr(taught, bank_with_a_secret(seed=2)) > 0.75


@pytest.mark.parametrize("labels", ["augmented", "held_out", "cross_fitted", "stage_averaged"])
def test_labels_that_banks_cannot_provide_are_refused(banks, labels):
    with pytest.raises(ValueError, match=r"received (its banks alone|stages=0)"):
        fit_head(banks, HeadConfig(labels=labels))


def test_a_head_needs_validation_samples(banks):
    with pytest.raises(ValueError, match="needs validation samples"):
        fit_head(Banks(banks.bank, None))


def test_an_anchored_head_corrects_confidence_where_it_knows_more(banks, knowing):
    head = fit_head(banks, replace(knowing.config, anchored=True))
    assert knowing.anchor is None
    assert head.anchor.weight > 0.0
    assert head.multiply_adds == knowing.multiply_adds
    edge = banks.val_bank.edge
    corrected = head.anchor.correct(knowing.score(edge), edge)
    np.testing.assert_array_equal(head.score(edge), corrected)
    assert apgr(head, banks.val_bank) >= apgr(knowing, banks.val_bank)


def test_an_anchored_head_that_knows_nothing_is_not_run_and_costs_nothing(banks):
    config = plain(anchored=True)
    head = HeadRule(None, config, anchor=Anchor("margin", 0.0, ((0.5, 0.2), (0.0, 1.0))))
    assert head.multiply_adds == 0
    assert apgr(head, banks.bank) == apgr(Margin(), banks.bank)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        *((name, "mlp") for name in HEAD_INPUTS),
        *(
            ("features", architecture)
            for architecture in get_args(HeadArchitecture)
            if architecture not in ("mlp", "conv")
        ),
        *(
            pytest.param(name, architecture, marks=pytest.mark.slow)
            for name, architecture in (
                ("features", "conv"),
                ("image", "conv"),
                ("image", "paper_mlp"),
            )
        ),
    ],
)
def test_every_head_scores_every_sample(banks, name, architecture):
    keras.backend.clear_session()  # numbers unnamed layers anew, whatever has run before
    head = fit_head(banks, HeadConfig(input=name, architecture=architecture, epochs=1))
    scores = head.score(banks.val_bank.edge)
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("config", "weights_by_hand"),
    [
        (plain(), 10 * 256 + 256),
        (
            plain(depth=4),
            10 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32,
        ),
        (plain(input="features", depth=2), 8 * 8 * 2 * 128 + 128 * 128 + 128),
        (plain(input="features", architecture="paper_mlp"), 8 * 8 * 2 * 128 + 128),
    ],
)
def test_the_depth_decides_the_layers(config, weights_by_hand):
    shape = (10,) if config.input == "logits" else (8, 8, 2)
    assert multiply_adds(build_head(shape, config)) == weights_by_hand


def test_a_conv_head_has_depth_layers_in_each_of_four_blocks():
    for depth in (1, 3):
        head = build_head((16, 16, 32), plain(input="features", architecture="conv", depth=depth))
        assert sum("conv2d" in layer.name for layer in head.layers) == 4 * depth


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({}, 0.0, 0.05),
        pytest.param({"loss": "weighted_bce"}, 0.2, 1.0, marks=pytest.mark.slow),
        ({"oversample": True}, 0.2, 1.0),
    ],
)
def test_balancing_lifts_the_scores_of_the_rare_label(banks, options, low, high):
    """With one label in ten hard, a plain head calls almost nothing hard; a balanced one half."""
    head = fit_head(banks, plain(local_fraction=0.9, **options))
    assert low <= np.mean(head.score(banks.val_bank.edge) > 0) <= high


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scores(banks):
    first, again, other = (
        fit_head(banks, plain(epochs=1, seed=seed)).score(banks.val_bank.edge) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_weights_of_the_best_epoch_on_validation_data_are_kept(banks):
    head = fit_head(banks, plain(input="features", epochs=6, patience=1))
    best = max(head.history["val_audc"])
    kept = OffloadCurve.from_scores(head.score(banks.val_bank.edge), banks.val_bank).audc
    assert kept == pytest.approx(best)


@pytest.mark.slow
def test_a_head_that_goes_on_elsewhere_normalises_as_it_has_learnt(banks, tmp_path):
    """What it computes in memory is what its saved weights compute."""
    other = bank_with_a_secret(seed=3)
    louder = {name: 3.0 * tier.outputs + 5.0 for name, tier in other.tiers.items()}
    elsewhere = Banks(other.with_outputs(louder), banks.val_bank)
    head = fit_head(elsewhere, plain(epochs=1), initial=fit_head(banks, plain(epochs=1)))
    loaded = HeadRule.load(head.save(tmp_path), tmp_path)
    np.testing.assert_array_equal(
        loaded.score(elsewhere.bank.edge), head.score(elsewhere.bank.edge)
    )


def test_a_head_goes_on_from_the_weights_of_another_and_leaves_them_as_they_are(banks):
    config = plain(epochs=1, learning_rate=1e-12)
    first = fit_head(banks, config)
    weights = first.model.get_weights()
    second = fit_head(banks, replace(config, seed=1), initial=first)
    for before, after, copy in zip(weights, first.model.get_weights(), second.model.get_weights()):
        np.testing.assert_array_equal(after, before)
        np.testing.assert_allclose(copy, before, atol=1e-6)


@pytest.mark.slow
def test_a_co_trained_head_learns_along_and_gives_nothing_back(toy_splits):
    config = DDNNConfig(
        local_filters=4, cloud_filters=((4,),), cloud_units=(), epochs=2, batch_size=16
    )
    train, val = toy_splits.train, toy_splits.val
    along = CoTrainedHead(train, val, plain(anchored=True))
    fitted = fit_ddnn(train, val, config, callbacks=[along], verbose=0)
    alone = fit_ddnn(train, val, config, verbose=0)
    np.testing.assert_array_equal(fitted.bank.cloud_logits, alone.bank.cloud_logits)
    assert along.head.anchor is not None  # of the last epoch
    assert np.isfinite(along.head.score(fitted.val_bank.edge)).all()


def test_a_co_trained_head_starts_when_it_is_told_to(toy_splits):
    along = CoTrainedHead(toy_splits.train, toy_splits.val, start=5)
    along.on_epoch_end(4)
    assert along.head is None


def test_a_co_trained_head_is_judged_by_the_epoch_itself(toy_splits):
    with pytest.raises(ValueError, match="expected labels 'final_epoch'; received 'augmented'"):
        CoTrainedHead(toy_splits.train, toy_splits.val, HeadConfig(labels="augmented"))


@pytest.mark.parametrize("local_fraction", [0.0, 1.0])
def test_all_easy_or_all_hard_still_trains(banks, local_fraction):
    config = plain(local_fraction=local_fraction, oversample=True, epochs=1)
    assert np.isfinite(fit_head(banks, config).score(banks.val_bank.edge)).all()
