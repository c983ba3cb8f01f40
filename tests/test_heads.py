import numpy as np
import pytest

from keras_ddnn.bank import Bank, EdgeOutputs
from keras_ddnn.config import HeadConfig
from keras_ddnn.evaluation import OffloadCurve
from keras_ddnn.head_inputs import HEAD_INPUTS
from keras_ddnn.heads import HEADS, build_head, fit_head
from keras_ddnn.models import multiply_adds


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
    return Bank(EdgeOutputs(local, features.astype(np.float16), images), cloud_logits, labels)


@pytest.fixture(scope="module")
def banks():
    return bank_with_a_secret(seed=0), bank_with_a_secret(seed=1)


def apgr(rule, bank):
    return OffloadCurve.from_scores(rule.score(bank.edge), bank).apgr


def test_a_head_finds_in_the_features_what_confidence_cannot_know(banks):
    head = fit_head(*banks, HeadConfig(input="features", local_fraction=0.7))
    assert apgr(head, bank_with_a_secret(seed=2)) > 0.75
    blind = fit_head(*banks, HeadConfig(input="logits", local_fraction=0.7))
    assert apgr(blind, bank_with_a_secret(seed=2)) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        *((name, "mlp") for name in HEAD_INPUTS),
        *(("features", architecture) for architecture in HEADS if architecture != "mlp"),
        ("image", "conv"),
    ],
)
def test_every_head_scores_every_sample(banks, name, architecture):
    head = fit_head(*banks, HeadConfig(input=name, architecture=architecture, epochs=1))
    scores = head.score(banks[1].edge)
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("config", "weights_by_hand"),
    [
        (HeadConfig(input="logits"), 10 * 256 + 256),
        (
            HeadConfig(input="logits", depth=4),
            10 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32,
        ),
        (HeadConfig(input="features", depth=2), 8 * 8 * 2 * 128 + 128 * 128 + 128),
        (HeadConfig(input="features", architecture="paper_mlp"), 8 * 8 * 2 * 128 + 128),
    ],
)
def test_the_depth_decides_the_layers(config, weights_by_hand):
    shape = (10,) if config.input == "logits" else (8, 8, 2)
    assert multiply_adds(build_head(shape, config)) == weights_by_hand


def test_a_conv_head_has_depth_layers_in_each_of_four_blocks():
    for depth in (1, 3):
        head = build_head(
            (16, 16, 32), HeadConfig(input="features", architecture="conv", depth=depth)
        )
        assert sum("conv2d" in layer.name for layer in head.layers) == 4 * depth


@pytest.mark.parametrize("options", [{"loss": "weighted_bce"}, {"oversample": True}])
def test_balancing_lifts_the_scores_of_the_rare_label(banks, options):
    """With one label in ten hard, a plain head calls almost nothing hard; a balanced one half."""
    plain, balanced = (
        fit_head(*banks, HeadConfig(input="logits", local_fraction=0.9, **extra))
        for extra in ({}, options)
    )
    called_hard = [np.mean(head.score(banks[1].edge) > 0) for head in (plain, balanced)]
    assert called_hard[0] < 0.05
    assert called_hard[1] > 0.2


def test_the_same_seed_gives_the_same_scores(banks):
    first, again, other = (
        fit_head(*banks, HeadConfig(epochs=1, seed=seed)).score(banks[1].edge) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_weights_of_the_best_epoch_on_validation_data_are_kept(banks):
    head = fit_head(*banks, HeadConfig(input="features", epochs=6, patience=1))
    best = max(head.history["val_audc"])
    kept = OffloadCurve.from_scores(head.score(banks[1].edge), banks[1]).audc
    assert kept == pytest.approx(best)


@pytest.mark.parametrize("local_fraction", [0.0, 1.0])
def test_all_easy_or_all_hard_still_trains(banks, local_fraction):
    config = HeadConfig(local_fraction=local_fraction, oversample=True, epochs=1)
    assert np.isfinite(fit_head(*banks, config).score(banks[1].edge)).all()
