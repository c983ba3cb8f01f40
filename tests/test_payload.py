"""Bytes of a sample: what is sent, what else could be, and what is said of it."""

import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.evaluation.payload import SAMPLES, Payload

QUANTISATION = Quantisation(low=-4.0, step=1 / 32)


def edge_of(features, images) -> TierOutputs:
    return TierOutputs(np.zeros((len(features), 2), np.float32), features, images)


@pytest.fixture
def edge():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 4, 4, 2)).astype(np.float16)
    return edge_of(features, rng.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8))


def test_each_form_has_the_bytes_of_what_a_device_would_send(edge):
    payload = Payload.of(edge, QUANTISATION)
    assert (payload.features, payload.codes, payload.image) == (4 * 4 * 2 * 2, 4 * 4 * 2, 768)
    packed = [zlib.compress(QUANTISATION.codes(sample).tobytes()) for sample in edge.features]
    assert payload.codes_zlib == np.mean([len(each) for each in packed])
    with io.BytesIO() as file:
        Image.fromarray(edge.inputs[0]).save(file, "png")
        one = Payload.of(edge_of(edge.features[:1], edge.inputs[:1]))
        assert one.image_png == len(file.getvalue())


def test_samples_are_compressed_one_by_one(edge):
    twice = edge_of(np.repeat(edge.features, 2, axis=0), np.repeat(edge.inputs, 2, axis=0))
    assert Payload.of(twice, QUANTISATION) == Payload.of(edge, QUANTISATION)


def test_codes_are_sent_where_they_say_all_and_features_elsewhere(edge):
    assert Payload.of(edge, QUANTISATION).sent == 4 * 4 * 2
    assert Payload.of(edge).sent == 4 * 4 * 2 * 2


def test_few_samples_stand_for_many(edge):
    many = np.repeat(edge.features[:1], 10 * SAMPLES, axis=0)
    many[-1] = 0.0  # the last one counts too
    images = np.repeat(edge.inputs[:1], len(many), axis=0)
    lengths = [len(zlib.compress(QUANTISATION.codes(f).tobytes())) for f in (many[0], many[-1])]
    mean = np.average(lengths, weights=[SAMPLES - 1, 1])
    assert Payload.of(edge_of(many, images), QUANTISATION).codes_zlib == pytest.approx(mean)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_png_has_up_to_four_channels_and_json_has_no_nan(edge, channels):
    payload = Payload.of(edge_of(edge.features, np.zeros((9, 16, 16, channels), np.uint8)))
    content = json.loads(json.dumps(payload.as_json(), allow_nan=False))
    assert (content["image_png"] is None) == (channels == 5)
    assert content["sent"] == payload.sent


WIDE = Payload(16384, 8192, 5000.5, 3072, 2400.0, lossless=False)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (
            WIDE,
            "sends 16,384 bytes, 5.3 times the raw image: splitting saves computation, not "
            "bandwidth",
        ),
        (
            replace(WIDE, features=1024),
            "sends 1,024 bytes, 33% of the raw image and 43% of its PNG",
        ),
        (
            replace(WIDE, codes=2880, lossless=True),
            "sends 2,880 bytes, 94% of the raw image, but 1.2 times its PNG",
        ),
        (replace(WIDE, features=1024, image_png=np.nan), "sends 1,024 bytes, 33% of the raw image"),
    ],
)
def test_it_says_plainly_whether_splitting_saves_bandwidth(payload, said):
    assert payload.verdict() == f"an offloaded sample {said}"
