"""Configurations: what is refused, and how clearly; what survives a round trip through JSON."""

import json
import math
from dataclasses import fields

import ml_dtypes
import numpy as np
import pytest

from keras_ddnn.config import (
    PRESETS,
    DDNNConfig,
    HeadConfig,
    PaperOptions,
    TrainingConfig,
    feature_quantisation,
    resolve_config,
)
from keras_ddnn.files.records import as_json, differences
from keras_ddnn.networks.architectures.named_models import NETWORKS
from keras_ddnn.networks.cascade import FEATURES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("lambda_local", value) for value in (-0.1, 1.1, math.nan, "rand", None)],
        *[("dropout", value) for value in (-0.1, 1.1, math.nan, "0.5")],
        *[("epochs", value) for value in (0, -1, 2.5, "20", None)],
        *[("learning_rate", value) for value in (0.0, -1e-3, math.nan, math.inf, "fast")],
        *[("bottleneck", value) for value in (0, -1, 2.5, "none", 3, 130)],
        ("local_filters", 0),
        ("local_units", 0),
        ("batch_size", 0),
        *[("stages", value) for value in (-1, 21, 1.5)],
        ("schedule", "cosine"),
        ("augmentation", "mixup"),
        ("precision", "int8"),
    ],
)
def test_a_bad_field_of_a_ddnn_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field}.*{value!r}"):
        DDNNConfig(**{field: value})


@pytest.mark.parametrize("widths", [{"cloud_filters": [[32, 0]]}, {"cloud_units": [64, 0.5]}])
def test_a_cloud_layer_without_a_width_is_refused(widths):
    with pytest.raises(ValueError, match=r"cloud_width must be a positive integer; received 0"):
        DDNNConfig(**widths)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", "softmax"),
        ("architecture", "transformer"),
        *[("depth", value) for value in (0, 5)],
        ("loss", "hinge"),
        ("cost", "latency"),
        ("precision", "int8"),
        *[("local_fraction", value) for value in (-0.1, 1.1, math.nan, "half", None)],
        *[("dropout", value) for value in (-0.1, 1.1, math.nan, "0.5")],
        *[("epochs", value) for value in (0, 1.5)],
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("patience", 0),
    ],
)
def test_a_bad_field_of_a_head_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field}.*{value!r}"):
        HeadConfig(**{field: value})


@pytest.mark.parametrize("vector", ["logits", "logits_plus"])
def test_a_convolution_cannot_read_a_vector(vector):
    with pytest.raises(ValueError, match=f"one of features, image; received '{vector}'"):
        HeadConfig(architecture="conv", input=vector)


@pytest.mark.parametrize("map_input", ["features", "image"])
def test_a_map_cannot_be_oversampled(map_input):
    with pytest.raises(ValueError, match=f"needs a vector input; received '{map_input}'"):
        HeadConfig(oversample=True, input=map_input)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="'cosine'; known: plateau, one_cycle"):
        DDNNConfig(schedule="cosine")
    with pytest.raises(ValueError, match="'hearsay'; known: final_epoch, augmented, held_out"):
        HeadConfig(labels="hearsay")


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), "random"])
def test_lambda_may_be_any_number_in_the_unit_interval_or_random(value):
    assert DDNNConfig(lambda_local=value).lambda_local == value


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        DDNNConfig(lambda_local="random", cloud_filters=[[8], [16, 16]], cloud_units=[]),
        DDNNConfig(bottleneck=4),
        HeadConfig(),
        HeadConfig(input="image", architecture="conv", local_fraction=0.1),
    ],
)
def test_a_config_read_back_from_json_equals_and_hashes_as_the_one_written(config):
    read = type(config)(**json.loads(json.dumps(as_json(config))))
    assert read == config
    assert hash(read) == hash(config)


def test_what_differs_from_the_defaults_is_all_that_an_address_names():
    assert (
        differences(DDNNConfig, as_json(DDNNConfig(cloud_filters=[[32, 32], [64, 64, 128]]))) == {}
    )
    changed = {"bottleneck": 4, "cloud_units": [8], "lambda_local": "random"}
    assert differences(DDNNConfig, as_json(DDNNConfig(**changed))) == changed
    assert differences(DDNNConfig, {"unknown": 1, "seed": 0}) == {"unknown": 1}


def test_every_code_of_a_bottleneck_comes_back_through_half_precision():
    assert feature_quantisation(DDNNConfig()) is None
    quantisation = feature_quantisation(DDNNConfig(bottleneck=4))
    codes = np.arange(256, dtype=np.uint8)
    for half in (np.float16, ml_dtypes.bfloat16):
        values = quantisation.values(codes).astype(half)
        np.testing.assert_array_equal(quantisation.codes(values), codes)
        np.testing.assert_array_equal(values.astype(np.float32), quantisation.values(codes))


@pytest.mark.parametrize(("epochs", "wide"), [(10, 5), (5, 3), (2, 1), (1, 0)])
def test_a_bottleneck_is_put_in_after_half_of_the_epochs(epochs, wide):
    assert DDNNConfig(epochs=epochs, bottleneck=4).wide_epochs == wide
    assert DDNNConfig(epochs=epochs).wide_epochs == 0


def test_a_preset_is_named_and_its_fields_replaced():
    assert resolve_config() == resolve_config("paper") == DDNNConfig()
    config = resolve_config("strong", epochs=3, seed=7)
    assert (config.epochs, config.seed) == (3, 7)
    assert config.augmentation == PRESETS["strong"].augmentation
    assert resolve_config(config, dropout=0.0).epochs == 3


@pytest.mark.parametrize(
    ("arguments", "overrides", "message"),
    [
        (["fastest"], {}, "unknown preset 'fastest'; known: paper, fast"),
        ([], {"epoch": 3}, "unknown DDNNConfig field 'epoch'; known: local_filters"),
        (["fast"], {"epochs": 0}, "epochs must be a positive integer; received 0"),
        (["fast"], {"local_pool": "no"}, "local_pool must be True or False; received 'no'"),
    ],
)
def test_an_unknown_preset_or_field_or_a_bad_value_is_refused(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        resolve_config(*arguments, **overrides)


def test_the_paper_s_config_is_an_architecture_and_a_recipe_which_share_no_field():
    names = [{field.name for field in fields(kind)} for kind in (PaperOptions, TrainingConfig)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {field.name for field in fields(DDNNConfig)}
    config = DDNNConfig(cloud_units=[8], bottleneck=4, epochs=3, lambda_local="random")
    assert config.network == PaperOptions(cloud_units=(8,), bottleneck=4)
    assert config.recipe == TrainingConfig(epochs=3, lambda_local="random")
    assert DDNNConfig(**as_json(config.network), **as_json(config.recipe)) == config


def test_the_paper_is_the_first_row_of_the_known_networks():
    name, row = next(iter(NETWORKS.items()))
    model = row.build((16, 16, 3), 3, PaperOptions(local_filters=4), "float32")
    assert name == "paper"
    assert tuple(model.output) == ("local", "cloud")
    assert model.get_layer(FEATURES).output.shape == (None, 8, 8, 4)
