from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.config import Augmentation
from keras_ddnn.training.batches import (
    CUT,
    GREY,
    PAD,
    augmentation,
    steps_per_epoch,
    training_batches,
)

SEED = tf.constant([0, 1], tf.int64)
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)


def epoch(seed, n=10, batch_size=5):
    batches = training_batches((np.arange(n),), batch_size, seed)
    return [batch[0].numpy().tolist() for batch in batches.take(steps_per_epoch(n, batch_size))]


def test_an_epoch_sees_every_sample_once():
    assert sorted(index for batch in epoch(seed=0) for index in batch) == list(range(10))


def test_the_seed_decides_the_order():
    assert epoch(seed=0) == epoch(seed=0)
    assert epoch(seed=0) != epoch(seed=1)


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert [len(batch) for batch in epoch(seed=0, n=3)] == [3]


def test_every_epoch_is_augmented_anew():
    noise = training_batches(
        (np.zeros(4),),
        4,
        0,
        lambda batch, seed: tf.random.stateless_uniform([], seed),
    )
    assert len({float(value) for value in noise.take(3)}) == 3


@pytest.mark.parametrize("name", get_args(Augmentation))
def test_augmented_images_keep_their_shape_and_type(name):
    augmented = augmentation(name)(tf.constant(IMAGES), SEED)
    assert augmented.shape == IMAGES.shape
    assert augmented.dtype == tf.uint8


def test_flip_mirrors_about_half_of_the_images():
    flipped = augmentation("flip")(tf.constant(IMAGES), SEED).numpy()
    same = (flipped == IMAGES).all(axis=(1, 2, 3))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 16 <= mirrored.sum() <= 48


def test_an_image_is_cropped_and_then_mirrored_as_each_alone_would_do():
    cropped, both = (augmentation(n)(tf.constant(IMAGES), SEED) for n in ("crop", "crop_flip"))
    np.testing.assert_array_equal(both, augmentation("flip")(cropped, SEED))


def test_each_image_is_mirrored_in_every_other_epoch_and_shifted_a_little():
    images = np.random.default_rng(0).integers(0, 100, (200, 16, 16, 1), dtype=np.uint8)
    images[:, :, 8:] += 100  # brighter on the right
    augment, steps = augmentation("shift_alternate", steps=10), (0, 9, 10, 25, 39)
    mirrored, moves = [], set()
    for step in steps:
        seen = augment(tf.constant(images), tf.constant([0, step], tf.int64)).numpy()
        mirrored.append(seen[:, :, :6].mean((1, 2, 3)) > seen[:, :, 10:].mean((1, 2, 3)))
        back = np.where(mirrored[-1][:, None, None, None], seen[:, :, ::-1], seen)
        # What is unchanged but for its place: 2 pixels of padding each way hold all of it.
        padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
        found = [
            {(r, c) for r in range(5) for c in range(5) if (p[r : r + 16, c : c + 16] == b).all()}
            for p, b in zip(padded, back)
        ]
        assert all(found)
        moves |= set.union(*found)
    first, again, second, third, fourth = mirrored
    assert 60 < first.sum() < 140
    np.testing.assert_array_equal(first, again)  # batches of one epoch
    np.testing.assert_array_equal(first, ~second)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(first, ~fourth)
    assert len(moves) == 25


def test_cutout_hides_one_square_of_each_image_and_changes_nothing_else():
    cropped, cut = (
        augmentation(name)(tf.constant(IMAGES), SEED).numpy()
        for name in ("crop_flip", "crop_flip_cutout")
    )
    height, width = IMAGES.shape[1:3]
    places = set()
    for before, after in zip(cropped, cut):
        changed = np.argwhere((before != after).any(axis=-1))
        (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
        square = np.zeros((height, width), bool)
        square[top : bottom + 1, left : right + 1] = True
        assert (after[square] == GREY).all()
        np.testing.assert_array_equal(after[~square], before[~square])
        assert CUT // 2 <= bottom - top + 1 <= CUT
        assert CUT // 2 <= right - left + 1 <= CUT
        places.add((top, left))
    assert len(places) > len(IMAGES) // 2


def test_crop_shifts_an_image_by_up_to_the_padding():
    cropped = augmentation("crop")(tf.constant(IMAGES), SEED).numpy()
    padded = np.pad(IMAGES, [(0, 0), (PAD, PAD), (PAD, PAD), (0, 0)], mode="reflect")
    shifts = set()
    for image, canvas in zip(cropped, padded):
        places = [
            (row - PAD, column - PAD)
            for row in range(2 * PAD + 1)
            for column in range(2 * PAD + 1)
            if (canvas[row : row + 16, column : column + 16] == image).all()
        ]
        assert len(places) == 1
        shifts.update(places)
    assert len(shifts) > 20
