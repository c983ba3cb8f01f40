"""Files of arrays: nothing is read before its size is known, and nothing but what is asked for."""

import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from keras_ddnn.data.datasets import load
from keras_ddnn.data.formats.archives import read_npz


def toy_arrays(**others):
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}_{what}": array
        for what in ("train", "test")
        for kind, array in (
            ("x", rng.integers(0, 256, (20, 16, 16, 3), np.uint8)),
            ("y", np.arange(20) % 2),
        )
    }
    return arrays | others


def save(path, **others):
    np.savez_compressed(path, **toy_arrays(**others))
    return path


def refusal(path, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_array_that_is_not_asked_for_costs_nothing_and_is_named(tmp_path, caplog):
    path = save(tmp_path / "toy.npz", x_extra=np.zeros(100_000_000, np.uint8))
    assert path.stat().st_size < 300_000
    tracemalloc.start()
    splits = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(splits.test) == 20
    assert peak < 20_000_000
    assert f"{path}: arrays that are not read: x_extra" in caplog.messages


def test_pickle_that_is_not_asked_for_does_no_harm(tmp_path):
    assert len(load(save(tmp_path / "toy.npz", notes=np.array([{}]))).test) == 20


def test_arrays_larger_than_the_free_memory_are_refused_unread(tmp_path, monkeypatch):
    path = save(tmp_path / "toy.npz", x_test=np.zeros((200, 160, 160, 3), np.uint8))
    free = SimpleNamespace(available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    tracemalloc.start()
    refusal(path, r"arrays that fit in memory: x_test has 0\.01 GiB.* are available")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_header_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    path = save(tmp_path / "toy.npz")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    claimed = members["x_train.npy"].replace(b"(20, 16, 16, 3)", b"(2000000000, 3)")
    assert claimed != members["x_train.npy"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"x_train.npy": claimed}).items():
            archive.writestr(name, content)
    refusal(path, r"array x_train of shape \(2000000000, 3\) needs 6,000,000,000 bytes")


def test_pickled_labels_are_never_read(tmp_path):
    path = save(tmp_path / "toy.npz", y_train=np.array([{}] * 20))
    refusal(path, "array y_train holds pickled objects, which are never read")


def test_damaged_archive_is_refused_in_one_line(tmp_path):
    content = save(tmp_path / "toy.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = np.frombuffer(content, np.uint8).copy()
        broken[rng.integers(0, len(broken), 8)] ^= 255
        (tmp_path / "toy.npz").write_bytes(broken.tobytes())
        assert outcome(tmp_path / "toy.npz").count("\n") == 0


def outcome(path):
    """Return why a file is refused, or "" if it is read, for not every flipped byte matters."""
    try:
        read_npz(path)
    except ValueError as error:
        return str(error)
    return ""


def test_grey_images_stay_one_channel(tmp_path):
    grey = {f"x_{what}": np.zeros((20, 16, 16, 1), np.uint8) for what in ("train", "test")}
    assert load(save(tmp_path / "toy.npz", **grey)).test.images.shape == (20, 16, 16, 1)
