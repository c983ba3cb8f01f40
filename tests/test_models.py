import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.config import DDNNConfig, HeadConfig, feature_quantisation
from keras_ddnn.heads.architectures import build_head
from keras_ddnn.networks import paper as models
from keras_ddnn.networks.architectures import processor
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.networks.costs.model_costs import describe_layers, multiply_adds
from keras_ddnn.networks.layers import Bias, FusedBatchNormalization
from keras_ddnn.networks.paper import (
    build_ddnn,
    save_weights,
    split_ddnn,
)
from keras_ddnn.training.joint import compile_ddnn

HEAD_INPUT_OF = {"mlp": "logits", "conv": "features"}
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def paper():
    return build_ddnn((32, 32, 3), 10, DDNNConfig(precision="float32"))


def test_both_outputs_are_float32_logits_whatever_the_precision():
    model = build_ddnn((32, 32, 3), 10, DDNNConfig(precision="bfloat16"))
    outputs = model(IMAGES)
    assert set(outputs) == {"local", "cloud"}
    assert {(tuple(o.shape), o.dtype.name) for o in outputs.values()} == {((4, 10), "float32")}
    assert {weight.dtype for weight in model.weights if "seed" not in weight.name} == {"float32"}


def use_gpus(monkeypatch, capability):
    """Let TensorFlow see one GPU of a compute capability, or none."""
    gpus = [] if capability is None else ["gpu"]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus)
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bfloat16"), ((7, 5), "float16")])
def test_a_gpu_computes_in_half_precision_and_with_xla(monkeypatch, capability, expected):
    use_gpus(monkeypatch, capability)
    assert models.resolve_precision("auto") == expected
    model = build_ddnn((16, 16, 3), 4, DDNNConfig())
    compile_ddnn(model, DDNNConfig())
    assert model.get_layer("cloud_conv_0_0").compute_dtype == expected
    assert model.get_layer("cloud").compute_dtype == "float32"
    assert model.jit_compile
    # Small gradients vanish in float16 unless the loss is scaled.
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (expected == "float16")


def test_a_cpu_trains_without_xla(monkeypatch):
    use_gpus(monkeypatch, None)
    model = build_ddnn((16, 16, 3), 4, DDNNConfig())
    compile_ddnn(model, DDNNConfig())
    assert not model.jit_compile


@pytest.mark.parametrize(
    ("maker", "flags", "expected"),
    [
        ("GenuineIntel", "avx512f amx_bf16 avx512_bf16", "bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),  # slower than float32 without AMX
        ("AuthenticAMD", "avx512f avx512_bf16", "bfloat16"),
        ("AuthenticAMD", "avx512f", "float32"),
        ("ARM", "asimd bf16 i8mm", "bfloat16"),
        ("GenuineIntel", "sse4_2", "float32"),
    ],
)
def test_auto_is_bfloat16_where_a_cpu_is_faster_with_it(
    monkeypatch, tmp_path, maker, flags, expected
):
    use_gpus(monkeypatch, None)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nvendor_id : {maker}\nflags : {flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    assert models.resolve_precision("auto") == expected


def test_a_cpu_that_says_nothing_of_itself_computes_in_float32(monkeypatch, tmp_path):
    use_gpus(monkeypatch, None)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert models.resolve_precision("auto") == "float32"


def test_the_halves_put_together_are_the_whole(paper):
    local_model, cloud_model = split_ddnn(paper)
    edge = local_model(IMAGES)
    assert edge["features"].shape == (4, 16, 16, 32)
    whole = paper(IMAGES)
    np.testing.assert_array_equal(edge["local"], whole["local"])
    np.testing.assert_array_equal(cloud_model(edge["features"]), whole["cloud"])


def test_the_halves_share_the_weights_of_the_whole(paper):
    local_model, cloud_model = split_ddnn(paper)
    shared = {id(w) for w in local_model.weights} | {id(w) for w in cloud_model.weights}
    assert shared == {id(w) for w in paper.weights}


def test_without_local_pooling_the_features_keep_the_size_of_the_image():
    model = build_ddnn((32, 32, 3), 10, DDNNConfig(local_pool=False))
    assert model.get_layer("features").output.shape == (None, 32, 32, 32)


def test_multiply_adds_of_the_paper_by_hand(paper):
    local_model, cloud_model = split_ddnn(paper)
    conv = 32 * 32 * (3 * 3 * 3) * 32
    dense = (16 * 16 * 32) * 64 + 64 * 10
    assert multiply_adds(local_model) == conv + dense
    block_0 = 2 * 16 * 16 * (3 * 3 * 32) * 32
    block_1 = 8 * 8 * 9 * (32 * 64 + 64 * 64 + 64 * 128)
    dense = (4 * 4 * 128) * 256 + 256 * 64 + 64 * 10
    assert multiply_adds(cloud_model) == block_0 + block_1 + dense
    assert multiply_adds(paper) == multiply_adds(local_model) + multiply_adds(cloud_model)


SMALL = DDNNConfig(
    local_filters=4, cloud_filters=((4,), (8, 8)), cloud_units=(8,), precision="float32"
)


@pytest.mark.parametrize("bottleneck", [None, 2])
@pytest.mark.parametrize("cuts", [0, 2])
def test_folded_normalisation_gives_the_same_logits_without_it(cuts, bottleneck):
    model = build_ddnn((16, 16, 3), 3, replace(SMALL, bottleneck=bottleneck))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, FusedBatchNormalization):  # as if it had been trained
            layer.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in layer.get_weights()])
    for _ in range(cuts):
        split_ddnn(model)
    folded = as_cascade(model).folded().model
    kinds = FusedBatchNormalization | Bias
    assert not any(isinstance(layer, kinds) for layer in folded.layers)
    images = IMAGES[:, :16, :16]
    for name, logits in model(images).items():
        np.testing.assert_allclose(folded(images)[name], logits, rtol=0, atol=1e-4)
    before = model.get_layer("cloud_conv_0_0").kernel.numpy()
    folded.get_layer("cloud_conv_0_0").kernel.assign(before + 1)
    np.testing.assert_array_equal(model.get_layer("cloud_conv_0_0").kernel, before)


@pytest.mark.parametrize("bottleneck", [None, 2])
def test_the_device_infers_in_float32_whatever_the_training_was_in(bottleneck):
    trained, exact = (
        build_ddnn((16, 16, 3), 3, replace(SMALL, precision=precision, bottleneck=bottleneck))
        for precision in ("bfloat16", "float32")
    )
    exact.set_weights(trained.get_weights())
    images = IMAGES[:, :16, :16]
    folded, exact = (as_cascade(model).folded().model for model in (trained, exact))
    one, other = (split_ddnn(model)[0](images) for model in (folded, exact))
    for name in ("features", "local"):
        np.testing.assert_array_equal(one[name], other[name])
    assert folded.get_layer("cloud_conv_0_0").compute_dtype == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_bottleneck_sends_codes_and_nothing_is_lost_in_them(precision):
    config = DDNNConfig(bottleneck=32, precision=precision)
    local_model, cloud_model = split_ddnn(build_ddnn((32, 32, 3), 10, config))
    features = np.asarray(local_model(IMAGES)["features"]).astype(np.float16)
    codes = feature_quantisation(config).codes(features)
    assert codes[0].nbytes == 8 * 8 * 32 // 2 == 1024
    assert len(np.unique(codes)) > 16
    back = feature_quantisation(config).values(codes)
    np.testing.assert_array_equal(back, features.astype(np.float32))
    np.testing.assert_array_equal(cloud_model(back), cloud_model(features))


def test_the_local_classifier_reads_past_the_bottleneck():
    model = build_ddnn((16, 16, 3), 3, replace(SMALL, bottleneck=2))
    local_model, cloud_model = split_ddnn(model)
    before, whole = local_model(IMAGES[:, :16, :16]), model(IMAGES[:, :16, :16])
    np.testing.assert_array_equal(before["local"], whole["local"])
    np.testing.assert_array_equal(cloud_model(before["features"]), whole["cloud"])
    model.get_layer("bottleneck").kernel.assign(-model.get_layer("bottleneck").kernel)
    after = local_model(IMAGES[:, :16, :16])
    np.testing.assert_array_equal(after["local"], before["local"])
    assert np.any(after["features"] != before["features"])


def test_a_bottleneck_costs_the_device_one_narrow_convolution(paper):
    narrow = split_ddnn(build_ddnn((32, 32, 3), 10, DDNNConfig(bottleneck=16)))
    more = (8 * 8 * (2 * 2 * 32) * 16, 8 * 8 * 16 * (2 * 2 * 32))
    for half, whole, cost in zip(narrow, split_ddnn(paper), more):
        assert multiply_adds(half) == multiply_adds(whole) + cost
        records = describe_layers(half)
        assert sum(record["multiply_adds"] for record in records) == multiply_adds(half)
    assert by_name(narrow[0])["features"]["kind"] == "SimulatedQuantisation"


def test_a_bottleneck_takes_maps_of_odd_sides():
    local_model, cloud_model = split_ddnn(build_ddnn((30, 30, 3), 3, replace(SMALL, bottleneck=2)))
    features = local_model(IMAGES[:, :30, :30])["features"]
    assert features.shape[1:] == (8, 8, 2)  # of 15×15
    assert cloud_model(features).shape == (len(IMAGES), 3)


def test_the_cloud_loss_reaches_the_local_network_through_the_bottleneck():
    model = build_ddnn((16, 16, 3), 3, replace(SMALL, bottleneck=2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES[:, :16, :16], training=True)["cloud"] ** 2)
    assert np.abs(tape.gradient(loss, model.get_layer("local_conv").kernel)).max() > 0


def by_name(model) -> dict[str, dict]:
    return {record["name"]: record for record in describe_layers(model)}


def test_a_layer_is_described_by_what_it_is_costs_and_reads(paper):
    assert by_name(paper)["local_conv"] == {
        "name": "local_conv",
        "kind": "Conv2D",
        "shape": [32, 32, 32],
        "parameters": 3 * 3 * 3 * 32,
        "multiply_adds": 32 * 32 * (3 * 3 * 3) * 32,
        "inputs": ["rescaling"],
    }
    assert by_name(paper)["local_pool"]["multiply_adds"] == 0
    assert by_name(paper)["images"]["inputs"] == []


def test_the_features_feed_both_networks(paper):
    fed = [name for name, record in by_name(paper).items() if "features" in record["inputs"]]
    assert sorted(fed) == ["cloud_conv_0_0", "local_flatten"]


def test_a_half_is_described_without_the_other_even_after_many_cuts(paper):
    split_ddnn(paper)
    local_model, cloud_model = split_ddnn(paper)
    local, cloud = describe_layers(local_model), describe_layers(cloud_model)
    assert not any(record["name"].startswith("cloud") for record in local)
    assert cloud[0]["kind"] == "InputLayer"
    assert by_name(cloud_model)["cloud_conv_0_0"]["inputs"] == [cloud[0]["name"]]


@pytest.mark.parametrize("kind", ["ddnn", "local", "cloud", "mlp", "conv"])
def test_layers_come_after_what_feeds_them_and_sum_to_the_model(paper, kind):
    if kind in ("mlp", "conv"):
        shape = (10,) if kind == "mlp" else (16, 16, 32)
        model = build_head(shape, HeadConfig(architecture=kind, input=HEAD_INPUT_OF[kind]))
    else:
        model = dict(zip(("ddnn", "local", "cloud"), (paper, *split_ddnn(paper))))[kind]
    records = describe_layers(model)
    assert json.loads(json.dumps(records)) == records
    names = [record["name"] for record in records]
    for place, record in enumerate(records):
        assert set(record["inputs"]) <= set(names[:place])
        assert bool(record["inputs"]) == (place > 0)
    assert sum(record["parameters"] for record in records) == model.count_params()
    assert sum(record["multiply_adds"] for record in records) == multiply_adds(model) > 0


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((32, 32), 10, r"received \(32, 32\)"),
        ((8, 32, 3), 10, r"received \(8, 32, 3\)"),
        ((32, 32, 3), 1, "received 1"),
    ],
)
def test_an_impossible_network_is_refused(shape, classes, message):
    with pytest.raises(ValueError, match=message):
        build_ddnn(shape, classes)


def test_weights_are_written_without_the_slots_of_the_optimizer(tmp_path):
    """Two thirds of a file, which nobody reads; those that have them are still read."""
    config = DDNNConfig()
    model = build_ddnn((16, 16, 3), 3, config)
    compile_ddnn(model, config)
    optimizer = model.optimizer
    save_weights(model, tmp_path / "small.weights.h5")
    assert model.optimizer is optimizer
    model.save_weights(tmp_path / "old.weights.h5")
    assert (tmp_path / "small.weights.h5").stat().st_size < 1.1 * 4 * model.count_params()
    for name in ("small", "old"):
        read = build_ddnn((16, 16, 3), 3, config)
        read.load_weights(tmp_path / f"{name}.weights.h5")
        for there, here in zip(read.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(there, here)
