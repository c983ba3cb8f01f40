"""Cases of the study of networks of today: who teaches whom."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras_ddnn.data.datasets import as_split
from tune.modern_networks import Job, network_of, teacher_of, weights_file


def test_a_case_learns_from_the_network_it_names(tmp_path):
    train = as_split(np.zeros((4, 32, 32, 3), np.uint8), np.arange(4))
    splits, given = SimpleNamespace(train=train, num_classes=4), SimpleNamespace(work=tmp_path)
    with pytest.raises(ValueError, match="--networks modern_large --seeds 0 --cases teacher"):
        teacher_of(Job("modern_tiny", 3, case="distilled"), splits, given)
    assert teacher_of(Job("modern_tiny", 3), splits, given) is None
    before = Job("modern_tiny", 3)
    kept = network_of(before, splits, given).model
    kept.get_layer("cloud_whitening").start(np.random.default_rng(0).random((2, 8, 8, 3)))
    kept.save_weights(weights_file(before, given))
    teacher = teacher_of(replace(before, case="codes"), splits, given)
    for ours, theirs in zip(teacher.network.model.get_weights(), kept.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
