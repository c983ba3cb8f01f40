"""The dataset of four cameras: what a seed fixes, what splits share, what data of cameras are."""

from hashlib import sha256

import numpy as np
import pytest

from keras_ddnn.data.datasets import as_split, load
from keras_ddnn.data.formats import cluttered_digits, cluttered_views, named

SIZES = {"train": 20, "val": 10, "test": 10}


def test_the_data_are_those_that_were_fixed():
    """Results refer to these pixels: whoever changes them makes another dataset."""
    drawn = cluttered_views.generate(SIZES)
    digests = {what: sha256(x.tobytes()).hexdigest()[:16] for what, (x, _) in drawn.items()}
    assert digests == {
        "train": "3e7383f30ccb747c",
        "val": "c14d8fd7d3662db6",
        "test": "5e2e2ef983d4b631",
    }
    assert drawn["val"][1].tolist() == [5, 7, 7, 5, 7, 9, 0, 4, 8, 7]


def test_load_gives_four_grey_cameras_fixed_by_the_seed(monkeypatch):
    monkeypatch.setitem(named.SIZES, "cluttered_views", SIZES)
    splits = load("cluttered_views", seed=3)
    assert splits.train.images.shape == (20, 4, 32, 32, 1)
    assert splits.num_classes == 10
    assert load("cluttered_views", seed=3).fingerprint() == splits.fingerprint()
    assert load("cluttered_views", seed=4).fingerprint() != splits.fingerprint()


def test_no_camera_of_the_dataset_is_absent():
    for frames, _ in cluttered_views.generate(SIZES).values():
        assert frames.min() > 0  # a frame of zeros is an absent camera


def test_every_split_has_digits_of_its_own():
    seen = []

    def draw(glyphs, chosen, rng):
        seen.append({glyph.tobytes() for glyph in glyphs})
        return cluttered_views._draw_views(glyphs, chosen, rng)

    cluttered_digits.draw_splits(SIZES, 0, draw)
    train, val, test = seen
    assert all(seen)
    assert not (train & val) | (train & test) | (val & test)


FRAMES = np.zeros((4, 2, 16, 16, 1), np.uint8)
LABELS = np.arange(4) % 2


def test_data_of_cameras_pass_as_they_are_and_floats_become_bytes():
    assert as_split(FRAMES + 7, LABELS).images.shape == (4, 2, 16, 16, 1)
    assert as_split((FRAMES + 1) / 1.0, LABELS).images.max() == 255


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (FRAMES[..., :4, :], r"height and width of at least 16, received shape \(4, 2, 16, 4, 1\)"),
        (np.repeat(FRAMES, 2, axis=-1), r"\(n, camera, height, width, 1 or 3\), received shape"),
        (FRAMES[:, :0], r"at least one camera, received shape \(4, 0, 16, 16, 1\)"),
        (FRAMES - 1.0, "floats in \\[0, 1\\], received -1 to -1"),
    ],
)
def test_other_shapes_of_cameras_are_refused_in_one_line(frames, expected):
    with pytest.raises(ValueError, match=expected) as error:
        as_split(frames, LABELS)
    assert "\n" not in str(error.value)
