"""Inputs that need not fit in memory are rows by index, wherever they are."""

import pickle

import h5py
import numpy as np
import pytest
import tensorflow as tf

from keras_ddnn.data.datasets import Split, Splits, as_split, split_of
from keras_ddnn.data.rows import view
from keras_ddnn.data.rows.view import MappedFile, Rows, taken
from keras_ddnn.training import batches
from keras_ddnn.training.batches import batches_in_order, training_batches

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
LABELS = np.arange(20) % 2


class OnlyRows:
    """What the protocol asks for, and nothing else: as strict as HDF5, and it counts."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        assert isinstance(rows, slice) or (np.diff(rows) > 0).all()
        found = self.array[rows]
        self.most = max(self.most, len(found))
        return found


@pytest.fixture(params=["memory", "memmap", "hdf5", "rows"])
def stored(request, tmp_path):
    """Return a function that stores an array and returns what is given to the package."""

    def store(array):
        if request.param == "memmap":
            np.save(tmp_path / "x.npy", array)
            return np.load(tmp_path / "x.npy", mmap_mode="r")
        if request.param == "hdf5":
            file = h5py.File(tmp_path / "x.h5", "w")
            request.addfinalizer(file.close)
            return file.create_dataset("x", data=array)
        return OnlyRows(array) if request.param == "rows" else array

    return store


@pytest.mark.parametrize("array", [IMAGES, IMAGES / np.float32(255), IMAGES.astype(np.int32)])
def test_a_split_reads_rows_in_any_order_wherever_they_are(stored, array):
    split = as_split(stored(array), LABELS)
    assert (split.images.shape, split.images.dtype) == (IMAGES.shape, np.uint8)
    for rows in ([3], [7, 0, 7, -1], slice(2, 9), slice(9, 2, -2), np.arange(20) > 4, slice(None)):
        np.testing.assert_array_equal(split.images[rows], IMAGES[rows])
        part = split.take(np.arange(20)[rows])
        np.testing.assert_array_equal(part.images[:], IMAGES[rows])
        np.testing.assert_array_equal(part.labels, LABELS[rows])
    np.testing.assert_array_equal(split.images[5], IMAGES[5])
    np.testing.assert_array_equal(split.images[:, 0, 1], IMAGES[:, 0, 1])
    nested = taken(taken(split.images, np.arange(19, 9, -1)), [0, 3])
    np.testing.assert_array_equal(nested[:], IMAGES[[19, 16]])
    with pytest.raises(IndexError):
        split.images[[20]]


def test_fingerprints_are_those_of_the_arrays(stored):
    def fingerprint(images):
        split = as_split(images, LABELS)
        return Splits("toy", split, split, split.take([0, 1, 2]), ("a", "b")).fingerprint()

    assert fingerprint(stored(IMAGES)) == fingerprint(IMAGES)


def test_values_are_checked_a_block_at_a_time(monkeypatch):
    monkeypatch.setattr(view, "BLOCK_BYTES", 3 * IMAGES[0].nbytes * 4)
    array = (IMAGES / 255).astype(np.float32)
    array[[4, 19], 0, 0, 0] = np.nan, np.inf
    source = OnlyRows(array)
    with pytest.raises(ValueError, match="NaN or infinity in 2 of 20 images"):
        as_split(source, LABELS)
    assert source.most == 3


def test_what_gives_no_rows_by_index_is_refused_in_one_line():
    class Slices(OnlyRows):
        def __getitem__(self, rows):
            if not isinstance(rows, slice):
                raise TypeError("slices only")
            return self.array[rows]

    with pytest.raises(ValueError, match=r"^train images: expected rows by index.*slices only"):
        as_split(Slices(IMAGES), LABELS)


def test_tensors_and_lists_are_arrays(stored):
    for images in (tf.constant(IMAGES), IMAGES.tolist()):
        np.testing.assert_array_equal(as_split(images, LABELS).images, IMAGES)


def test_a_mapped_file_is_pickled_by_its_name(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    content = pickle.dumps(Rows(mapped[4:]).take([3, 0]))
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content)[:], IMAGES[[7, 4]])
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=r"x\.npy cannot be read on this machine"):
        pickle.loads(content)


def test_what_no_name_tells_is_no_mapped_file(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(MappedFile.of(mapped[2:5]).open(), IMAGES[2:5])
    assert MappedFile.of(mapped[::2]) is None
    assert MappedFile.of(np.load(tmp_path / "x.npy", mmap_mode="c")) is None


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 3])
def test_training_batches_are_those_of_gathered_tensors(stored, together, monkeypatch):
    monkeypatch.setattr(batches, "MOST_TOGETHER", together)

    def gathered(seed):
        x, y = tf.constant(IMAGES), tf.constant(LABELS)
        rows = tf.data.Dataset.range(20).shuffle(20, seed=seed, reshuffle_each_iteration=True)
        return (
            rows.batch(6, drop_remainder=True)
            .repeat()
            .map(lambda i: (tf.gather(x, i), tf.gather(y, i)))
        )

    tf.random.set_seed(5)
    ours = training_batches((as_split(stored(IMAGES), LABELS).images, LABELS), 6, 3)
    for (images, labels), (expected, numbers) in zip(ours.take(8), gathered(3)):
        assert images.shape == (6, 16, 16, 3)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, numbers)


def test_batches_in_order_end_with_what_is_left():
    found = [x.numpy().tolist() for x in batches_in_order(np.arange(7), 3)]
    assert found == [[0, 1, 2], [3, 4, 5], [6]]


def dataset(batch=6, **shuffling):
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    return (pairs.shuffle(20, **shuffling) if shuffling else pairs).batch(batch)


class Sequence(tf.keras.utils.PyDataset):
    def __init__(self, order, shuffled=False):
        super().__init__()
        self.order, self.shuffled = order, shuffled

    def __len__(self):
        return 4

    def __getitem__(self, batch):
        rows = self.order[5 * batch : 5 * batch + 5]
        return IMAGES[rows], LABELS[rows]

    def on_epoch_end(self):
        if self.shuffled:
            self.order = self.order[::-1]


@pytest.mark.parametrize("make", [dataset, lambda: Sequence(np.arange(20))])
def test_batches_of_pairs_are_written_once_and_said(make, caplog):
    split = split_of(make(), "train", repeatable=True)
    np.testing.assert_array_equal(split.images, IMAGES)
    np.testing.assert_array_equal(split.labels, LABELS)
    assert "train: 20 samples of a" in caplog.text
    assert split_of(Split(IMAGES, LABELS), "train").images is IMAGES


def test_strings_are_labels_too():
    names = np.array(["cat", "dog"])[LABELS]
    split = split_of(tf.data.Dataset.from_tensor_slices((IMAGES, names)).batch(6), "train")
    assert split.labels.astype(str).tolist() == names.tolist()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: dataset().repeat(), "that ends, received an endless one; leave out repeat"),
        (lambda: dataset(seed=0), "batch 1 of its second pass: shuffle with reshuffle_each"),
        (lambda: Sequence(np.arange(20), True), "others in batch 1 of its second pass"),
        (lambda: dataset().unbatch(), r"labels, received shapes .* batch single samples by"),
        (lambda: dataset().map(lambda x, y: (x, y, y)), "batches of .input, label., received 3"),
        (lambda: dataset().map(lambda x, y: x), "batches of .input, label., received ndarray"),
        (lambda: dataset().take(0), "at least one sample, received none"),
    ],
)
def test_other_batches_are_refused_in_one_line(make, expected):
    with pytest.raises(ValueError, match=f"^test: .*{expected}") as caught:
        split_of(make(), "test", repeatable=True)
    assert "\n" not in str(caught.value)
