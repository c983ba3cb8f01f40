"""Codes: what comes back is what was sent, to half a step."""

import numpy as np
import pytest

from keras_ddnn.data.quantisation import Quantisation


def test_values_come_back_to_half_a_step():
    features = np.linspace(-1.0, 4.0, 1001, dtype=np.float16)
    quantisation = Quantisation(low=-1.0, step=5 / 255)
    back = quantisation.values(quantisation.codes(features))
    assert np.abs(back - features.astype(np.float32)).max() <= 2.5 / 255 + 1e-6


def test_codes_come_back_as_they_are():
    codes = np.arange(256, dtype=np.uint8)
    quantisation = Quantisation(low=-0.3, step=0.01)
    np.testing.assert_array_equal(quantisation.codes(quantisation.values(codes)), codes)


def test_what_lies_outside_is_clipped():
    quantisation = Quantisation(low=0.0, step=1 / 255)
    assert quantisation.codes(np.array([-5.0, 0.0, 1.0, 5.0])).tolist() == [0, 0, 255, 255]


def test_the_range_is_that_of_the_features_but_for_outliers():
    features = np.append(np.linspace(0.0, 1.0, 100_000), 1e4).astype(np.float16)
    quantisation = Quantisation.of(features)
    assert quantisation.low == pytest.approx(0.0, abs=1e-3)
    assert quantisation.step == pytest.approx(1 / 255, rel=1e-2)


def test_a_constant_map_has_a_code():
    quantisation = Quantisation.of(np.full((2, 2), 3.0, np.float16))
    assert quantisation.values(quantisation.codes(np.float32(3.0))) == 3.0


def test_two_codes_of_four_bits_make_a_byte():
    quantisation = Quantisation(low=-1.0, step=0.5, bits=4)
    values = np.array([[-1.0, -0.5, 0.1, 99.0], [-9.0, 6.5, 1.0, 0.0]])
    codes = quantisation.codes(values)
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0x01, 0x2F], [0x0F, 0x42]]
    np.testing.assert_array_equal(quantisation.values(codes), [[-1, -0.5, 0, 6.5], [-1, 6.5, 1, 0]])
    assert codes.shape[1:] == quantisation.shape_of_codes((4,)) == (2,)
    assert Quantisation(low=-1.0, step=0.5).shape_of_codes((8, 8, 4)) == (8, 8, 4)


def test_every_byte_of_two_codes_comes_back():
    codes = np.arange(256, dtype=np.uint8).reshape(4, 4, 16)
    quantisation = Quantisation(low=-2.0, step=0.25, bits=4)
    np.testing.assert_array_equal(quantisation.codes(quantisation.values(codes)), codes)


def test_it_comes_back_from_json():
    quantisation = Quantisation(low=-0.5, step=0.25, bits=4)
    assert Quantisation.from_json(quantisation.as_json()) == quantisation
    assert Quantisation.from_json({"low": 0.0, "step": 1.0}).bits == 8  # of older artefacts
    assert Quantisation.from_json(None) is None
