"""Datasets: what is accepted, what is refused and how clearly, what a seed fixes."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_ddnn.data.datasets import Split, Splits, as_split, load
from keras_ddnn.data.formats import cluttered_digits, named
from keras_ddnn.data.formats.named import DatasetMissing
from keras_ddnn.data.splits import hold_out, split_of


def toy(n=20, shape=(16, 16, 3), classes=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % classes


def toy_arrays(*names, **kwargs):
    arrays = {}
    for seed, what in enumerate(names):
        arrays[f"x_{what}"], arrays[f"y_{what}"] = toy(seed=seed, **kwargs)
    return arrays


def save_npz(folder, arrays):
    np.savez(folder / "toy.npz", **arrays)
    return folder / "toy.npz"


def write_folder(root, splits=("train", "val", "test"), classes=("cat", "dog"), size=(20, 16)):
    """Write four images a class; the grey level tells split, class and file apart."""
    for s, what in enumerate(splits):
        for k, class_name in enumerate(classes):
            (root / what / class_name).mkdir(parents=True)
            for i in range(4):
                image = Image.new("L", size, 100 * s + 10 * k + i)
                image.save(root / what / class_name / f"{i}.png")
    return root


@pytest.fixture
def small_digits(monkeypatch):
    sizes = {"train": 60, "val": 30, "test": 30}
    monkeypatch.setattr(named, "SIZES", dict.fromkeys(named.SIZES, sizes))


# --- arrays -----------------------------------------------------------------------------------

IMAGES, LABELS = toy()
WITH_NAN = (IMAGES / 255).copy()
WITH_NAN[[3, 7], 0, 0, 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (IMAGES[:, 0], LABELS, r"expected shape .* received shape \(20, 16, 3\)"),
        (IMAGES[..., :2], LABELS, r"1 or 3.*received shape \(20, 16, 16, 2\)"),
        (IMAGES[:, :15], LABELS, r"at least 16, received shape \(20, 15, 16, 3\)"),
        (IMAGES[:0], LABELS[:0], "images: expected at least one image"),
        (IMAGES.astype(np.float32) + 1, LABELS, "received 1 to 256; give uint8 for 0..255"),
        (IMAGES / 255 * 2, LABELS, r"floats in \[0, 1\], received 0 to 2; give uint8"),
        (IMAGES / 255 - 0.5, LABELS, r"floats in \[0, 1\], received -0.5 to 0.5"),
        (IMAGES.astype(np.int32) + 1, LABELS, "integers in 0..255, received 1 to 256"),
        (IMAGES.astype(np.int32) - 1, LABELS, "integers in 0..255, received -1 to 254"),
        (IMAGES > 7, LABELS, "received dtype bool"),
        (WITH_NAN, LABELS, "NaN or infinity in 2 of 20 images"),
        (IMAGES, np.eye(2)[LABELS], r"received shape \(20, 2\); pass labels.argmax"),
        (IMAGES, LABELS[:, None], r"received shape \(20, 1\); .*labels.ravel"),
        (IMAGES, LABELS[:-1], "received 20 images and 19 labels"),
        (IMAGES, LABELS[:0], "labels: expected at least one label"),
        (IMAGES, LABELS - 1, r"in 0\.\.1, received -1 to 0"),
        (IMAGES, LABELS + 1, r"in 0\.\.1, received 1 to 2"),
        (IMAGES, LABELS + 0.5, "received fractions"),
        (IMAGES, np.where(LABELS, np.nan, 0), "received fractions or NaN"),
        (IMAGES, LABELS.astype(str), "expected integers, received dtype <U"),
        (IMAGES, LABELS * 0, "at least two classes, received only class 0"),
    ],
)
def test_bad_arrays_are_refused_in_one_clear_line(images, labels, expected):
    with pytest.raises(ValueError, match=f"^train.*({expected})") as caught:
        as_split(images, labels, num_classes=2)
    assert "\n" not in str(caught.value)


def test_floats_of_0_to_255_and_grey_images_without_channels_are_read_and_said(caplog):
    floats, grey = IMAGES.astype(np.float32) - np.float32(0.25), IMAGES[..., 0]
    floats[floats < 0] = 0
    np.testing.assert_array_equal(as_split(floats, LABELS).images, IMAGES)
    np.testing.assert_array_equal(as_split(grey, LABELS).images[..., 0], grey)
    assert "train images are floats of 0 to 254.75, read as 0..255 and rounded" in caplog.messages
    assert "train images of shape (20, 16, 16) are read as grey images" in caplog.messages


def test_message_names_the_split_and_only_train_needs_two_classes():
    with pytest.raises(ValueError, match=r"^test labels: expected classes 0 or above"):
        as_split(IMAGES, LABELS - 1, what="test")
    assert len(as_split(IMAGES, LABELS * 0, what="test")) == 20


@pytest.mark.parametrize(
    ("data", "received"),
    [("quickstart", "str"), ((IMAGES,), "1 values"), ((IMAGES, LABELS, LABELS), "3 values")],
)
def test_what_is_no_pair_is_named(data, received):
    with pytest.raises(ValueError, match=f"val: expected a Split, a pair .* received {received}"):
        split_of(data, "val")


@pytest.mark.parametrize(
    "same", [IMAGES / 255, (IMAGES / 255).astype(np.float32), IMAGES.astype(np.int64)]
)
def test_pixels_of_every_accepted_type_become_the_same_uint8(same):
    split = as_split(same, LABELS.astype(np.float32))
    np.testing.assert_array_equal(split.images, IMAGES)
    np.testing.assert_array_equal(split.labels, LABELS)
    assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)


def test_float_pixels_are_rounded_to_the_nearest_level():
    images = np.full((2, 16, 16, 1), 0.999)  # 254.745 of 255
    assert as_split(images, [0, 1]).images.min() == 255


def test_contiguous_uint8_is_not_copied():
    assert np.shares_memory(as_split(IMAGES, LABELS).images, IMAGES)
    assert as_split(IMAGES[:, ::-1], LABELS).images.flags.c_contiguous


def test_splits_of_unlike_shapes_are_refused():
    good, odd = as_split(*toy()), as_split(*toy(shape=(32, 16, 3)))
    with pytest.raises(ValueError, match=r"test images: .*\(16, 16, 3\).*\(32, 16, 3\)"):
        Splits("toy", good, good, odd, ("a", "b"))


def test_fingerprint_follows_content_and_not_name():
    def fingerprint(images=IMAGES, name="toy"):
        split = Split(images, LABELS)
        return Splits(name, split, split, split, ("a", "b")).fingerprint()

    one_pixel = IMAGES.copy()
    one_pixel[5, 3, 2, 1] ^= 1
    assert fingerprint() == fingerprint(IMAGES.copy(), name="other")
    assert len({fingerprint(), fingerprint(one_pixel), fingerprint(IMAGES.swapaxes(1, 2))}) == 3
    assert fingerprint(IMAGES.reshape(20, 32, 8, 3)) != fingerprint()


def test_hold_out_takes_the_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [100, 50, 20])
    kept, held = hold_out(labels, 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [10, 5, 2]
    assert sorted([*kept, *held]) == list(range(170))
    assert held.tolist() != hold_out(labels, 0.1, seed=1)[1].tolist()


# --- files ------------------------------------------------------------------------------------


def test_npz_round_trip(tmp_path):
    arrays = toy_arrays("train", "val", "test", classes=3)
    splits = load(save_npz(tmp_path, arrays))
    assert (splits.name, splits.class_names, splits.num_classes) == ("toy", ("0", "1", "2"), 3)
    for what in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(splits, what).images, arrays[f"x_{what}"])
        np.testing.assert_array_equal(getattr(splits, what).labels, arrays[f"y_{what}"])


def test_npz_without_val_holds_out_a_tenth_of_train(tmp_path):
    arrays = toy_arrays("train", "test")
    path = str(save_npz(tmp_path, arrays))
    splits = load(path)
    assert np.bincount(splits.train.labels).tolist() == [9, 9]
    assert np.bincount(splits.val.labels).tolist() == [1, 1]
    both = np.concatenate([splits.train.images, splits.val.images])
    np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(arrays["x_train"], axis=0))
    assert load(path).fingerprint() == splits.fingerprint()
    assert load(path, seed=1).fingerprint() != splits.fingerprint()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"y_test": None}, "expected arrays y_test, received x_train, y_train, x_val"),
        ({"y_val": None}, "expected arrays y_val"),
        ({"y_val": np.full(20, 2)}, r"val labels: expected classes in 0\.\.1, received 2; "),
        ({"x_test": IMAGES[:, :, :, :1]}, r"test images: .*\(16, 16, 3\).*\(16, 16, 1\)"),
        ({"y_train": np.array([{}] * 20)}, "toy.npz: expected a .npz archive of plain arrays"),
    ],
)
def test_bad_npz_is_refused(tmp_path, change, expected):
    arrays = toy_arrays("train", "val", "test") | change
    path = save_npz(tmp_path, {key: a for key, a in arrays.items() if a is not None})
    with pytest.raises(ValueError, match=expected):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken", b"\x93NUMPY"])
def test_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "toy.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a \.npz archive"):
        load(tmp_path / "toy.npz")


def test_single_array_file_is_refused(tmp_path):
    np.save(tmp_path / "toy.npy", IMAGES)
    with pytest.raises(ValueError, match=r"expected a \.npz archive"):
        load(tmp_path / "toy.npy")


def test_folder_gives_rgb_images_labelled_by_subfolder(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    splits = load(root)
    assert (splits.name, splits.class_names) == ("pets", ("cat", "dog"))
    assert splits.val.images.shape == (8, 16, 20, 3)
    assert splits.val.images[:, 0, 0].tolist() == [
        [100 + 10 * k + i] * 3 for k in range(2) for i in range(4)
    ]
    assert splits.val.labels.tolist() == [0] * 4 + [1] * 4


def test_folder_without_val_holds_out_some_of_train(tmp_path):
    splits = load(write_folder(tmp_path, splits=("train", "test")))
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [6, 2, 8]


def test_unreadable_image_is_named(tmp_path):
    root = write_folder(tmp_path)
    (root / "test" / "cat" / "0.png").write_bytes(b"not a png")
    with pytest.raises(ValueError, match=r"test/cat/0\.png: expected an image"):
        load(root)


def test_class_folders_must_agree(tmp_path):
    root = write_folder(tmp_path)
    (root / "test" / "dog").rename(root / "test" / "fox")
    with pytest.raises(
        ValueError, match="test: expected class folders cat, dog, received cat, fox"
    ):
        load(root)


def test_folder_without_test_or_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected subfolders train, test"):
        load(write_folder(tmp_path / "a", splits=("train",)))
    root = write_folder(tmp_path / "b")
    for file in (root / "val").glob("*/*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="val/cat: expected images, received none"):
        load(root)


def test_unknown_name_lists_the_known_ones_and_says_paths_work():
    with pytest.raises(ValueError, match=r"'cifar11'.*cluttered_views, cifar10, .*\.npz"):
        load("cifar11")


@pytest.mark.parametrize("path", ["nowhere.npz", "no/such/folder", "~/no_such_folder_here"])
def test_missing_path_says_so(path):
    with pytest.raises(ValueError, match="does not exist"):
        load(path)


# --- TensorFlow Datasets ----------------------------------------------------------------------


def test_missing_tfds_dataset_says_where_it_looked_and_what_to_do(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    expected = f"{tmp_path}.*tfds build cifar10.*TFDS_DATA_DIR.*cluttered_digits"
    with pytest.raises(DatasetMissing, match=expected) as caught:
        load("cifar10", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded


class ToyBuilder:
    """The part of a tfds builder that the loader uses, over arrays in memory."""

    info = SimpleNamespace(features={"label": SimpleNamespace(names=["shirt", "shoe"])})

    def __init__(self, shape):
        self.shape = shape

    def as_dataset(self, split, batch_size, as_supervised, shuffle_files):
        assert batch_size == -1
        assert as_supervised
        assert not shuffle_files  # shuffled files would make the seed meaningless
        return toy(n={"train": 40, "test": 10}[split], shape=self.shape)


@pytest.fixture
def toy_tfds(monkeypatch):
    def install(shape):
        fake = SimpleNamespace(
            builder=lambda name, data_dir: ToyBuilder(shape), as_numpy=lambda pairs: pairs
        )
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)

    return install


def test_tfds_dataset_holds_out_a_tenth_of_train(toy_tfds):
    toy_tfds((32, 32, 3))
    splits = load("svhn_cropped")
    assert (splits.name, splits.class_names) == ("svhn_cropped", ("shirt", "shoe"))
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [36, 4, 10]
    np.testing.assert_array_equal(splits.test.images, toy(n=10, shape=(32, 32, 3))[0])


def test_small_grey_images_are_padded_and_repeated(toy_tfds):
    toy_tfds((28, 28, 1))
    images = load("fashion_mnist").test.images
    grey = toy(n=10, shape=(28, 28, 1))[0]
    assert images.shape == (10, 32, 32, 3)
    for channel in range(3):
        np.testing.assert_array_equal(images[:, 2:30, 2:30, channel], grey[..., 0])
    assert images.sum(dtype=int) == 3 * grey.sum(dtype=int)  # so the border is black


# --- cluttered digits -------------------------------------------------------------------------


@pytest.mark.usefixtures("small_digits")
def test_digits_are_fixed_by_the_seed():
    splits = load("cluttered_digits", seed=3)
    assert splits.train.images.shape == (60, 32, 32, 3)
    assert splits.num_classes == 10
    assert load("cluttered_digits", seed=3).fingerprint() == splits.fingerprint()
    assert load("cluttered_digits", seed=4).fingerprint() != splits.fingerprint()


def test_no_source_digit_reaches_two_splits():
    labels = np.arange(1000) % 10
    sources = cluttered_digits.split_sources(labels, seed=0)
    assert list(sources) == ["train", "val", "test"]
    np.testing.assert_array_equal(np.sort(np.concatenate([*sources.values()])), np.arange(1000))


@pytest.mark.usefixtures("small_digits")
def test_digit_stands_out_from_the_background():
    """Ink and paper differ by 40 grey levels or more in every image."""
    images = load("cluttered_digits").test.images.astype(float)
    contrast = np.ptp(np.percentile(images.mean(axis=3), [5, 95], axis=(1, 2)), axis=0)
    assert contrast.min() > 40


# --- import -----------------------------------------------------------------------------------


def test_reading_the_names_does_not_import_tensorflow():
    code = (
        "import sys; from keras_ddnn.data.datasets import DATASETS; "
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn', 'PIL'}; "
        "assert 'cifar10' in DATASETS; sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], np.array([False, True, True, False])])
def test_a_split_gives_some_of_its_rows_however_they_are_named(rows):
    split = as_split(np.arange(4 * 16 * 16 * 3).reshape(4, 16, 16, 3).astype("uint8"), [0, 1, 0, 1])
    few = split.take(rows)
    np.testing.assert_array_equal(few.images, split.images[1:3])
    assert few.labels.tolist() == [1, 0]
