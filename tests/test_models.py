import numpy as np
import pytest

from keras_ddnn.config import DDNNConfig
from keras_ddnn.models import build_ddnn, multiply_adds, split_ddnn

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
