"""Files as data sets are published and kept: each gives the pixels and labels that it holds."""

import gzip
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_ddnn.data.datasets import load, load_part
from keras_ddnn.data.formats.plain_pickle import read_pickle


def refusal(path, expected, **reading):
    with pytest.raises(ValueError, match=expected) as caught:
        load(path, **reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def levels(split):
    """Return the grey level of each image, all of whose pixels are alike."""
    return split.images[:, 8, 8, 0].tolist()


def all_levels(splits):
    return sorted(levels(splits.train) + levels(splits.val) + levels(splits.test))


def flat(*values, shape=(16, 16, 3), dtype=np.uint8):
    """Return images, each of one value."""
    return np.array(values, dtype).reshape(-1, *[1] * len(shape)) * np.ones(shape, dtype)


# --- .npz -------------------------------------------------------------------------------------


def npz(folder, names=("x_train", "y_train", "x_test", "y_test"), train=None, test=None):
    """Write four training images of levels 0, 80, 160, 240 and two test images, of two classes."""
    train = flat(0, 80, 160, 240) if train is None else train
    test = train[1:3] if test is None else test
    arrays = (train, [0, 0, 1, 1], test, [0, 1])
    np.savez(folder / "toy.npz", **dict(zip(names, arrays)))
    return folder / "toy.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("images_training", "targets_training", "images_testing", "targets_testing"),
    ],
)
def test_arrays_are_found_by_the_names_that_people_give_them(tmp_path, names):
    splits = load(npz(tmp_path, names))
    assert levels(splits.test) == [80, 160]
    assert splits.test.labels.tolist() == [0, 1]
    assert len(splits.train) + len(splits.val) == 4


def test_one_pair_of_arrays_is_split_alike_in_each_class_and_by_the_seed(tmp_path, caplog):
    images, labels = flat(*range(40)), np.repeat(["cat", "dog"], 20)
    np.savez(tmp_path / "toy.npz", data=images, target=labels)
    splits = load(tmp_path / "toy.npz")
    counts = [np.bincount(s.labels).tolist() for s in (splits.train, splits.val, splits.test)]
    # A fifth of 20 is 4; a tenth of the other 16 is 1.6, so 3 of 32.
    assert (sum(counts[0]), sum(counts[1]), counts[2]) == (29, 3, [4, 4])
    assert all_levels(splits) == list(range(40))
    assert (
        "toy is not split: of 40 images become 8 test data, 3 validation data, 29 training data, "
        "drawn from each class alike by seed 0"
    ) in caplog.messages
    assert load(tmp_path / "toy.npz").fingerprint() == splits.fingerprint()
    assert load(tmp_path / "toy.npz", seed=1).fingerprint() != splits.fingerprint()
    with pytest.raises(ValueError, match="expected test data of its own, received train"):
        load_part(tmp_path / "toy.npz", ["test"])


def test_two_arrays_for_one_split_are_refused(tmp_path):
    np.savez(tmp_path / "toy.npz", x_train=[0], train_images=[0])
    refusal(tmp_path / "toy.npz", "expected one array of a kind, received x_train and train_images")


@pytest.mark.parametrize("labels", [3, 5])
def test_more_or_fewer_labels_than_images_are_refused_before_anything_is_drawn(tmp_path, labels):
    np.savez(tmp_path / "toy.npz", x=flat(0, 80, 160, 240), y=np.arange(labels) % 2)
    refusal(
        tmp_path / "toy.npz", f"train: expected one label per image, received 4 images and {labels}"
    )


def test_a_pair_without_its_labels_is_refused(tmp_path):
    np.savez(tmp_path / "toy.npz", images=flat(0))
    refusal(tmp_path / "toy.npz", "expected arrays y, received images")


@pytest.mark.parametrize(
    ("train", "expected", "note"),
    [
        (
            flat(0, 80, 160, 240, dtype=np.float32),
            [80, 160],
            "images of float32, 0 to 240, are read as 0 to 255 for white",
        ),
        (flat(0, 80 * 257, 160 * 257, 65535, dtype=np.uint16), [80, 160], "0 to 65,535 for white"),
        (flat(0, 80, 160, 240, shape=(16, 16)), [80, 160], "repeated to three channels"),
        (flat(0, 0.2, 0.4, 1.0, dtype=float), [51, 102], None),
    ],
    ids=["floats to 255", "uint16", "grey", "floats to 1"],
)
def test_pixels_of_every_kind_become_the_same_bytes(tmp_path, caplog, train, expected, note):
    splits = load(npz(tmp_path, train=train))
    assert splits.test.images.dtype == np.uint8
    assert splits.test.images.shape == (2, 16, 16, 3)
    assert levels(splits.test) == expected
    assert note is None or any(note in message for message in caplog.messages)


def test_a_dark_test_image_is_read_by_the_scale_of_the_training_images(tmp_path):
    """Alone, floats of 0 to 1 would be taken for a picture of 0 to white."""
    train, test = flat(0, 80, 160, 240, dtype=np.float32), flat(0, 1, dtype=np.float32)
    assert levels(load(npz(tmp_path, train=train, test=test)).test) == [0, 1]


@pytest.mark.parametrize(
    ("train", "received"),
    [
        (flat(0, 1, 2, 20, dtype=np.float32), "float32 of 0 to 20"),
        (flat(0, 1, 2, 4095, dtype=np.uint16), "uint16 of 0 to 4095"),
        (flat(0, 1, 2, 40_000, dtype=np.int32), "int32 of 0 to 40000"),
    ],
)
def test_an_unknown_white_asks_for_the_option_that_names_it(tmp_path, train, received):
    path = npz(tmp_path, train=train)
    assert received in refusal(path, r"white with --scale \(scale= of keras_ddnn.load\)")
    white = float(train.max())
    assert (
        levels(load(path, scale=white).test) == np.rint(255 * train[1:3, 0, 0, 0] / white).tolist()
    )
    refusal(path, f"train images: expected values of 0 to {white / 2:g}", scale=white / 2)


def test_transparent_pixels_of_arrays_show_the_background(tmp_path):
    """Half transparent black over white is 255·(1 - 128/255) = 127."""
    pixels = flat(0, 80, 160, 240, shape=(16, 16, 4))
    pixels[..., 3] = 255
    pixels[1, ..., 3], pixels[2] = 0, (0, 0, 0, 128)
    path = npz(tmp_path, train=pixels)
    assert load(path).test.images[:, 0, 0].tolist() == [[255] * 3, [127] * 3]
    assert load(path, background="#000080").test.images[0, 0, 0].tolist() == [0, 0, 128]
    opaque = npz(tmp_path, train=flat(0, 80, 160, 240))
    refusal(opaque, "background: expected transparent images", background="#000080")


def test_channels_first_say_how_to_turn_them(tmp_path):
    path = npz(tmp_path, train=flat(0, 80, 160, 240, shape=(3, 16, 16)))
    refusal(
        path,
        r"received shape \(4, 3, 16, 16\), which looks like channels first: pass "
        r"x.transpose\(0, 2, 3, 1\)",
    )


# --- folders ----------------------------------------------------------------------------------


def write(path, level, size=(16, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).save(path)


@pytest.fixture
def classes_alone(tmp_path):
    """A folder class/image of ten images a class, whose level tells class and file."""
    for k, name in enumerate(("cat", "dog")):
        for i in range(10):
            write(tmp_path / "pets" / name / f"{i}.png", 100 * k + i)
    return tmp_path / "pets"


def test_class_folders_alone_are_split_alike_in_each_class(classes_alone, caplog):
    splits = load(classes_alone)
    assert splits.class_names == ("cat", "dog")
    # A fifth of 10; a tenth of the other 8 is 0.8, and each class has one at least.
    assert [np.bincount(s.labels).tolist() for s in (splits.test, splits.val, splits.train)] == [
        *([2, 2], [1, 1], [7, 7])
    ]
    assert all_levels(splits) == [*range(10), *range(100, 110)]
    assert any("pets is not split: of 20 images become 4 test" in m for m in caplog.messages)
    assert load(classes_alone, seed=1).fingerprint() != splits.fingerprint()


def test_what_archives_of_macos_hold_is_no_class(classes_alone):
    (classes_alone / "__MACOSX" / "cat").mkdir(parents=True)
    (classes_alone / "Thumbs.db").write_bytes(b"")
    assert load(classes_alone).class_names == ("cat", "dog")


def test_damaged_images_are_left_out_only_when_asked(classes_alone, caplog):
    for name in ("cat/3.png", "dog/4.png"):
        (classes_alone / name).write_bytes(b"no image")
    message = refusal(classes_alone, "received 2 of 20 files that PIL cannot read")
    assert "cat/3.png" in message
    assert message.endswith("--skip-unreadable (skip_unreadable= of keras_ddnn.load)")
    splits = load(classes_alone, skip_unreadable=True)
    parts = (splits.train, splits.val, splits.test)
    assert all_levels(splits) == sorted({*range(10), *range(100, 110)} - {3, 104})
    assert all((np.array(levels(s)) // 100 == s.labels).all() for s in parts)
    assert any(
        "2 of 20 files are skipped, for PIL cannot read them: " in m and "dog/4.png" in m
        for m in caplog.messages
    )


def test_a_folder_of_which_nothing_can_be_read_is_refused_though_skipping_is_asked(classes_alone):
    for file in classes_alone.glob("*/*.png"):
        file.write_bytes(b"no image")
    refusal(classes_alone, "images, received none that can be read", skip_unreadable=True)


def test_a_test_split_of_which_nothing_can_be_read_is_refused(tmp_path):
    for what in ("train", "val", "test"):
        for k, name in enumerate(("cat", "dog")):
            write(tmp_path / what / name / "0.png", 100 * k)
    for file in tmp_path.glob("test/*/*.png"):
        file.write_bytes(b"no image")
    refusal(tmp_path, "test images: expected at least one image", skip_unreadable=True)


def test_skipping_is_refused_of_what_holds_no_image_files(tmp_path):
    refusal(npz(tmp_path), "skip_unreadable: expected image files", skip_unreadable=True)


# --- tables -----------------------------------------------------------------------------------

TABLE = {
    "file_name": [f"images/{i}.png" for i in range(8)],
    "label": ["b", "b", "a", "a", "b", "a", "b", "a"],
    "split": ["train"] * 4 + ["valid", "val", "test", "test"],
}


def table(folder, columns=TABLE, name="files.csv"):
    for i in range(len(columns[next(iter(columns))])):
        write(folder / "images" / f"{i}.png", 10 * i)
    frame = pd.DataFrame(columns)
    path = folder / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["files.csv", "files.tsv", "files.parquet"])
def test_a_table_names_paths_beside_itself_labels_and_splits(tmp_path, caplog, name):
    splits = load(table(tmp_path, TABLE | {"author": "me"}, name))
    assert (splits.name, splits.class_names) == ("files", ("a", "b"))
    assert levels(splits.train) == [0, 10, 20, 30]
    assert splits.train.labels.tolist() == [1, 1, 0, 0]
    assert (levels(splits.val), levels(splits.test)) == ([40, 50], [60, 70])
    assert any(
        m.endswith(
            "paths of column 'file_name', labels of column 'label', splits of column 'split'; not "
            "read: author"
        )
        for m in caplog.messages
    )


def test_a_table_without_splits_is_split_by_the_seed(tmp_path):
    columns = {"Path": [f"images/{i}.png" for i in range(20)], "Class": [7, 10] * 10}
    splits = load(table(tmp_path, columns))
    assert splits.class_names == ("7", "10")  # numbers, so not in the order of the alphabet
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [14, 2, 4]


def test_absolute_paths_lead_out_of_the_folder_of_the_table(tmp_path):
    (tmp_path / "lists").mkdir()
    columns = TABLE | {"file_name": [str(tmp_path / name) for name in TABLE["file_name"]]}
    path = table(tmp_path, columns).rename(tmp_path / "lists" / "files.csv")
    assert levels(load(path).test) == [60, 70]


def test_text_stays_text_in_a_table(tmp_path):
    columns = TABLE | {"label": ["NA", "NA", "007", "007", "NA", "007", "NA", "007"]}
    assert load(table(tmp_path, columns)).class_names == ("007", "NA")


def test_semicolons_and_a_byte_order_mark_are_read_as_spreadsheets_write_them(tmp_path):
    path = table(tmp_path)
    text = path.read_text().replace(",", ";")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert levels(load(path).test) == [60, 70]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"file_name": None}, r"expected a column named path, file, .* received columns label, sp"),
        (
            {"label": None},
            r"column named label, class, .* received columns file_name, split: rename",
        ),
        ({"label": ["a"] * 7 + [""]}, "expected label of every image, received none for 1 of 8"),
        ({"split": ["train"] * 7 + ["extra"]}, "in column split, received 'extra'"),
        ({"split": ["test"] * 8}, "expected rows of the split train, received test"),
        (
            {"file_name": ["images/0.png", "./images/0.png", *TABLE["file_name"][2:]]},
            r"once, received 1 of them more often, the first .*images/0\.png",
        ),
        (
            {"file_name": [*TABLE["file_name"][:7], "gone.png"]},
            r"gone\.png: expected an image, received a file PIL cannot read: .*No such file",
        ),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path, change, expected):
    columns = {name: value for name, value in (TABLE | change).items() if value is not None}
    refusal(table(tmp_path, columns), expected)


@pytest.mark.parametrize(("name", "content"), [("a.parquet", b"PAR1"), ("a.csv", b"\xff\xfe\x00")])
def test_a_damaged_table_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, "expected a table of image files")


def test_parquet_without_its_library_names_the_extra(tmp_path, monkeypatch):
    path = table(tmp_path, name="files.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_ddnn\[eval\]'"):
        load(path)


# --- IDX --------------------------------------------------------------------------------------


def idx(array):
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + bytes(array.tobytes())
    )


def mnist(folder, side=28, pack=gzip.compress, suffix=".gz"):
    """Write a training set of 20 digits, of which digit k has the level 10·k, and 10 to test."""
    folder.mkdir(exist_ok=True)
    for name, count in (("train", 20), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = flat(*10 * labels, shape=(side, side))
        (folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return folder


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (bytes, "")])
def test_the_mnist_family_reads_as_it_is_published(tmp_path, pack, suffix):
    splits = load(mnist(tmp_path / "digits", pack=pack, suffix=suffix))
    assert (splits.name, splits.num_classes) == ("digits", 10)
    assert splits.test.images.shape == (10, 32, 32, 3)  # as of TensorFlow Datasets
    assert levels(splits.test) == list(range(0, 100, 10))
    assert splits.test.images[9, 1].max() == 0
    assert splits.test.images[9, 2, 2].tolist() == [90] * 3
    assert splits.test.labels.tolist() == list(range(10))


def test_idx_images_of_another_size_get_no_border(tmp_path):
    assert load(mnist(tmp_path / "digits", side=20)).test.images.shape == (10, 20, 20, 3)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda file: file.unlink(), "expected IDX files of test labels, received t10k-images"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-9]),
            "t10k-labels.*expected an IDX file",
        ),
        (
            lambda file: file.write_bytes(gzip.compress(b"\0\0\x0d\1")),
            "its first bytes are 00000d01",
        ),
        (
            lambda file: file.write_bytes(gzip.compress(idx(np.zeros(9, np.uint8)) + b"more")),
            "header asks for 9 bytes",
        ),
        (
            lambda file: file.write_bytes(gzip.compress(b"\0\0\x08\1\xff\xff\xff\xff")),
            "asks for 4,294,967,295 bytes|are available",
        ),
    ],
    ids=["missing", "cut", "floats", "too long", "too short"],
)
def test_damaged_idx_files_are_refused_in_one_line(tmp_path, damage, expected):
    folder = mnist(tmp_path / "digits")
    damage(folder / "t10k-labels-idx1-ubyte.gz")
    refusal(folder, expected)


def test_one_idx_file_names_its_folder(tmp_path):
    file = mnist(tmp_path / "digits") / "train-images-idx3-ubyte.gz"
    assert refusal(file, "the folder of the four IDX files").endswith(f"name {file.parent}")


def test_a_packed_dataset_is_to_be_unpacked(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    refusal(tmp_path / "cifar-10-python.tar.gz", "received a packed one: unpack it first")


def test_test_data_have_the_size_of_a_network_where_they_are_image_files(tmp_path):
    assert load_part(mnist(tmp_path / "digits"), ["test"], image_size=(32, 32))[1].images.shape[
        1:3
    ] == (32, 32)
    assert load_part(table(tmp_path), ["test"], image_size=(20, 18))[1].images.shape == (
        2,
        20,
        18,
        3,
    )
    refusal(tmp_path / "digits", "image_size: expected image files", image_size=20)


# --- CIFAR ------------------------------------------------------------------------------------

RED, GREEN = (255, 0, 0), (0, 128, 0)
NAMES = ("airplane", "frog")


def planes(*colours):
    """Return rows (n, 3072): of each image the red plane, the green one, the blue one."""
    return np.repeat(np.array(colours, np.uint8), 1024, axis=1)


def records(labels, colours, before=()):
    rows = [bytes([*before, label]) + row.tobytes() for label, row in zip(labels, planes(*colours))]
    return b"".join(rows)


def binary(folder, hundred=False):
    """Write two training batches of two images each and a test batch of one."""
    folder.mkdir()
    if hundred:
        (folder / "train.bin").write_bytes(records((0, 1) * 2, (RED, GREEN) * 2, before=(9,)))
        (folder / "test.bin").write_bytes(records((1, 0), (GREEN, RED), before=(9,)))
        (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
        return folder
    for i in (1, 2):
        (folder / f"data_batch_{i}.bin").write_bytes(records((0, 1), (RED, GREEN)))
    (folder / "test_batch.bin").write_bytes(records((1, 0), (GREEN, RED)))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def pickled(folder, hundred=False, protocol=2, keys=str.encode):
    folder.mkdir()
    label_key = "fine_labels" if hundred else "labels"
    train = {keys("data"): planes(RED, GREEN, RED, GREEN), keys(label_key): [0, 1, 0, 1]}
    test = {keys("data"): planes(GREEN, RED), keys(label_key): [1, 0]}
    names = {keys("fine_label_names" if hundred else "label_names"): [keys(n) for n in NAMES]}
    files = ("train", "test", "meta") if hundred else ("data_batch_1", "test_batch", "batches.meta")
    for name, content in zip(files, (train, test, names)):
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


def same_text(text):
    return text


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *((binary, {"hundred": hundred}) for hundred in (False, True)),
        *((pickled, {"hundred": hundred}) for hundred in (False, True)),
        *((pickled, {"protocol": p, "keys": same_text}) for p in (2, 4, 5)),
    ],
)
def test_cifar_reads_as_it_is_published(tmp_path, caplog, make, options):
    splits = load(make(tmp_path / "cifar", **options))
    assert splits.class_names == NAMES
    assert splits.test.images.shape == (2, 32, 32, 3)
    assert splits.test.images[:, 5, 7].tolist() == [list(GREEN), list(RED)]
    assert splits.test.labels.tolist() == [1, 0]
    assert len(splits.train) + len(splits.val) == 4
    hundred = options.get("hundred", False)
    assert any("classes are the fine ones" in m for m in caplog.messages) == hundred
    assert any("of 5 training files are there" in m for m in caplog.messages) != hundred


def test_cifar_without_its_names_has_numbers(tmp_path, caplog):
    folder = binary(tmp_path / "cifar")
    (folder / "batches.meta.txt").unlink()
    assert load(folder).class_names == ("0", "1")
    assert any("for there is no batches.meta.txt" in m for m in caplog.messages)


def test_damaged_cifar_is_refused_in_one_line(tmp_path):
    folder = binary(tmp_path / "cifar")
    file = folder / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    refusal(folder, r"data_batch_2\.bin: expected records of 3,073 bytes, received 6,145 bytes")
    (folder / "test_batch.bin").unlink()
    refusal(folder, r"expected test_batch\.bin beside data_batch_1\.bin")
    other = pickled(tmp_path / "other")
    (other / "data_batch_1").write_bytes(pickle.dumps({"data": planes(RED), "labels": [0, 1]}, 2))
    refusal(other, r"expected data, uint8 of shape \(n, 3072\), and labels, n integers")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    folder = pickled(tmp_path / "cifar")
    target = tmp_path / "owned"
    content = {"data": Malicious(target), "labels": [0, 1]}
    (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol))
    refusal(folder, r"data_batch_1: .* nothing is run; received .*open")
    assert not target.exists()
    pickle.loads(pickle.dumps(content, protocol))["data"].close()  # the pickle is a real one
    assert target.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\nndarray\n(I1000000000000\ntR.",  # called, it would take the memory
        b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I9\nt.",
        b"c_codecs\nencode\n(V0\nVrot13\ntR.",
        pickle.dumps({"data": np.array([{}])}, 2),
        pickle.dumps(np.zeros(3), 2),
        pickle.dumps({"data": np.zeros(3, "U2")}, 2),
        b"}.junk"[:1],
        b"",
    ],
)
def test_other_things_than_plain_arrays_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="file: expected a pickled dictionary") as caught:
        read_pickle(tmp_path / "file")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(2)), np.array([True])],
)
def test_arrays_of_numbers_come_back_as_they_were(tmp_path, array, protocol):
    (tmp_path / "file").write_bytes(pickle.dumps({"a": array, "n": [1, 2.5, "x", None]}, protocol))
    content = read_pickle(tmp_path / "file")
    np.testing.assert_array_equal(content["a"], array)
    assert content["n"][:2] == [1, 2.5]
