"""Banks: what a device is told, what is kept on disk, what is refused when it is read back."""

import numpy as np
import pytest
from conftest import bank_of, two_tiers

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.tasks.classification import CLASSIFICATION


def thirds(n=5):
    return bank_of(np.full((n, 3), 1 / 3), np.full((n, 3), 1 / 3), np.arange(n) % 3)


def arrays_of(bank):
    return {
        "local_logits": bank.edge.outputs,
        "features": bank.edge.features,
        "cloud_logits": bank.cloud_logits,
        "labels": bank.labels,
        "index": bank.index,
    }


def test_a_saved_bank_is_read_back_equal(tmp_path):
    bank = thirds()
    bank.save(tmp_path / "new" / "bank.npz")
    loaded = Bank.load(tmp_path / "new" / "bank.npz", bank.edge.inputs)
    for name, array in arrays_of(bank).items():
        np.testing.assert_array_equal(arrays_of(loaded)[name], array)
        assert arrays_of(loaded)[name].dtype == array.dtype
    assert loaded.edge.inputs is bank.edge.inputs


def test_a_file_without_a_task_is_of_classes(tmp_path):
    np.savez(tmp_path / "bank.npz", **arrays_of(thirds()))
    loaded = Bank.load(tmp_path / "bank.npz")
    assert loaded.task is loaded.edge.task is CLASSIFICATION
    np.testing.assert_array_equal(loaded.costs(), thirds().costs())


def test_a_file_of_an_unknown_task_is_refused(tmp_path):
    task = '{"name": "ranking", "config": {}}'
    np.savez(tmp_path / "bank.npz", **arrays_of(thirds()), task=task)
    with pytest.raises(ValueError, match="not a saved bank: unknown task 'ranking'"):
        Bank.load(tmp_path / "bank.npz")


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_loaded_features_stay_on_disk_as_float16(tmp_path, layout):
    bank = thirds()
    edge = TierOutputs(bank.edge.outputs, layout(bank.edge.features), bank.edge.inputs)
    two_tiers(edge, bank.cloud_logits, bank.labels).save(tmp_path / "bank.npz")
    features = Bank.load(tmp_path / "bank.npz", bank.edge.inputs).edge.features
    assert isinstance(features, np.memmap)
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, bank.edge.features)


@pytest.mark.parametrize("index", [[4, 2, 0, 1, 3], [3, 1], [2, 2, 0]])
def test_images_are_found_by_index(tmp_path, index):
    images = thirds().edge.inputs
    part = thirds(len(index))
    edge = TierOutputs(part.edge.outputs, part.edge.features, images[index])
    two_tiers(edge, part.cloud_logits, part.labels, np.array(index)).save(tmp_path / "bank.npz")
    np.testing.assert_array_equal(
        Bank.load(tmp_path / "bank.npz", images).edge.inputs, images[index]
    )


@pytest.mark.parametrize("name", ["local_logits", "features", "cloud_logits", "labels", "index"])
class TestABankIsRefused:
    def test_with_python_objects_in_place_of_numbers(self, tmp_path, name):
        objects = np.array([{}] * 5, dtype=object)
        np.savez(tmp_path / "bank.npz", **{**arrays_of(thirds()), name: objects})
        with pytest.raises(ValueError, match="not a saved bank"):
            Bank.load(tmp_path / "bank.npz", thirds().edge.inputs)

    def test_with_an_array_missing(self, tmp_path, name):
        arrays = arrays_of(thirds())
        del arrays[name]
        np.savez(tmp_path / "bank.npz", **arrays)
        with pytest.raises(ValueError, match=f"not a saved bank.*{name}"):
            Bank.load(tmp_path / "bank.npz", thirds().edge.inputs)


@pytest.mark.parametrize("content", [b"", b"not a bank", b"PK\x03\x04 only the start of a zip"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "bank.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bank\.npz is not a saved bank"):
        Bank.load(tmp_path / "bank.npz", thirds().edge.inputs)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_bank_is_refused(tmp_path, share):
    path = tmp_path / "bank.npz"
    thirds().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="not a saved bank"):
        Bank.load(path, thirds().edge.inputs)


def test_compressed_features_are_refused_since_they_cannot_be_mapped(tmp_path):
    np.savez_compressed(tmp_path / "bank.npz", **arrays_of(thirds()))
    with pytest.raises(ValueError, match="features must be uncompressed"):
        Bank.load(tmp_path / "bank.npz", thirds().edge.inputs)


@pytest.mark.parametrize(("index", "received"), [([0, 5], 5), ([-1, 0], -1)])
def test_an_index_outside_the_images_is_refused(tmp_path, index, received):
    two = thirds(2)
    two_tiers(two.edge, two.cloud_logits, two.labels, np.array(index)).save(tmp_path / "bank.npz")
    with pytest.raises(ValueError, match=f"refers to image {received}; received 5 images"):
        Bank.load(tmp_path / "bank.npz", thirds().edge.inputs)


def test_a_failed_save_leaves_the_older_bank_untouched(tmp_path, monkeypatch):
    path = tmp_path / "bank.npz"
    thirds().save(path)
    older = path.read_bytes()

    def disk_full(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space"):
        thirds(2).save(path)
    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("probabilities", "entropy"),
    [
        ([1 / 3, 1 / 3, 1 / 3], 1.0),
        ([1 - 2e-30, 1e-30, 1e-30], 0.0),
        # -(1/2 log 1/2 + 2 · 1/4 log 1/4) = 3/2 log 2, over log 3
        ([0.5, 0.25, 0.25], 1.5 * np.log(2) / np.log(3)),
        # Two equally probable classes of four are half of all there is to know.
        ([0.5 - 1e-30, 0.5 - 1e-30, 1e-30, 1e-30], 0.5),
    ],
)
def test_local_entropy_is_in_units_of_the_uniform_one(probabilities, entropy):
    edge = bank_of([probabilities], [probabilities], [0]).edge
    np.testing.assert_allclose(edge.distribution.entropy, [entropy], atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 5, 7, 10, 12, 100])
def test_local_entropy_never_leaves_the_unit_interval(num_classes):
    logits = np.zeros((2, num_classes), np.float32)
    logits[1, 0] = 1000.0
    edge = TierOutputs(logits, features=None, inputs=None)
    assert ((edge.distribution.entropy >= 0) & (edge.distribution.entropy <= 1)).all()


def test_local_margin_is_the_gap_between_the_two_likeliest_classes():
    edge = bank_of([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4]], [[1 / 3] * 3] * 2, [0, 0]).edge
    np.testing.assert_allclose(edge.distribution.margin, [0.7 - 0.2, 0.0], atol=1e-6)


def test_each_network_is_right_where_its_likeliest_class_is_the_label(four_cases):
    assert four_cases.local_correct.tolist() == [False, True, True, False]
    assert four_cases.cloud_correct.tolist() == [True, False, True, False]


def test_a_bank_is_indexed_by_the_order_of_its_split(four_cases):
    assert len(four_cases) == len(four_cases.edge) == 4
    assert four_cases.index.tolist() == [0, 1, 2, 3]
