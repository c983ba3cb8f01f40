"""Folders of images: what is read, and that nothing is passed over without a word."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ddnn.data.datasets import load


def write(path, level=0, size=(20, 16), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level).save(path)


@pytest.fixture
def pets(tmp_path):
    """Two classes with four training and two test images each."""
    root = tmp_path / "pets"
    for what, count in (("train", 4), ("test", 2)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                write(root / what / name / f"{i}.png", 100 * k + i)
    return root


def add_val(pets, spelling):
    for k, name in enumerate(("cat", "dog")):
        write(pets / spelling / name / "0.png", 200 + k)


def refusal(root, expected, **reading):
    with pytest.raises(ValueError, match=expected) as caught:
        load(root, **reading)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ORDER = "classes 0 to 1 are the folders 'cat', 'dog', in this order"


def notes(caplog):
    """Return what is said beside the place of the decoded images."""
    return [m for m in caplog.messages if os.environ["KERAS_DDNN_CACHE"] not in m]


def other_notes(caplog):
    """Return what is said beside the order of the classes, which always is."""
    assert notes(caplog).count(ORDER) == 1
    return [message for message in notes(caplog) if message != ORDER]


# --- splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["val", "valid", "validation", "Valid", "VAL", "val_set"])
def test_validation_data_are_found_however_they_are_spelt(pets, spelling):
    add_val(pets, spelling)
    splits = load(pets)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [8, 2, 4]
    assert splits.val.images[:, 0, 0, 0].tolist() == [200, 201]


def test_training_and_test_data_are_found_however_they_are_spelt(pets):
    (pets / "train").rename(pets / "Training")
    (pets / "test").rename(pets / "testing")
    add_val(pets, "val")
    splits = load(pets)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [8, 2, 4]


def test_two_spellings_of_a_split_are_refused(pets):
    add_val(pets, "valid")
    add_val(pets, "validation")
    refusal(pets, "one folder for the split val, received valid and validation")


def test_training_images_that_become_validation_data_are_counted(pets, caplog):
    load(pets)
    assert "pets has no validation data: 2 of 8 training images become it" in caplog.messages


def test_folder_that_is_no_split_is_named_with_its_images(pets, caplog):
    add_val(pets, "val")
    write(pets / "extra" / "cat" / "0.png")
    write(pets / "cover.png")
    load(pets)
    (message,) = other_notes(caplog)
    assert message.endswith(
        "not read, because it is no train, val or test: extra (1 images), "
        "1 images beside the splits"
    )


# --- classes ----------------------------------------------------------------------------------


def test_images_below_a_class_folder_are_refused(pets):
    write(pets / "train" / "cat" / "persian" / "0.png")
    refusal(pets, r"persian/0\.png: expected images in .*train/cat, received one in a folder below")


def test_images_beside_the_class_folders_are_refused(pets):
    write(pets / "train" / "0.png")
    refusal(pets, r"train/0\.png: expected images in class folders, received one outside")


@pytest.mark.parametrize("what", ["train", "test"])
def test_class_folder_without_images_is_refused(pets, what):
    for split in ("train", "test"):
        write(pets / split / "fox" / "0.png")
    (pets / what / "fox" / "0.png").unlink()
    refusal(pets, f"{what}/fox: expected images, received none")


def test_class_whose_name_is_not_utf8_is_refused_before_images_are_read(pets):
    name = os.fsdecode(b"caf\xe9")
    for what in ("train", "test"):
        (pets / what / "cat").rename(pets / what / name)
    (pets / "train" / name / "0.png").write_bytes(b"damaged")
    refusal(pets, "the name of a class must be UTF-8, as reports are; received 'caf")


def rename_cat(pets, name):
    for what in ("train", "test"):
        (pets / what / "cat").rename(pets / what / name)


def test_class_whose_name_has_a_line_break_is_refused(pets):
    rename_cat(pets, "c\nat")
    assert "must be one line; received 'c\\nat': rename it" in refusal(pets, "name of a class")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["9", "10", "100"], "classes 0 to 2 are the folders '10', '100', '9', in this order"),
        (["0", "1"], None),
        (
            [f"c{i:02}" for i in range(22)],
            ", ".join(f"'c{i:02}'" for i in range(20)) + " and 2 others, in this order",
        ),
    ],
    ids=["numbers", "numbers in order", "many"],
)
def test_note_says_which_class_is_which_folder(tmp_path, caplog, names, said):
    for what in ("train", "val", "test"):
        for name in names:
            write(tmp_path / what / name / "0.png", size=(16, 16))
    load(tmp_path)
    assert len(notes(caplog)) == (said is not None)
    assert all(message.endswith(said) for message in notes(caplog))


def test_two_classes_that_are_one_folder_are_refused(pets):
    for what in ("train", "test"):
        (pets / what / "cow").symlink_to(pets / what / "cat", target_is_directory=True)
    assert "train/cow: expected a folder of its own" in refusal(pets, "link to that of 'cat'")


def test_path_that_is_not_utf8_is_refused(pets):
    root = pets.rename(pets.with_name(os.fsdecode(b"caf\xe9")))
    refusal(root, "the path of a dataset must be UTF-8")


# --- files ------------------------------------------------------------------------------------


def test_what_systems_leave_in_folders_is_passed_over(pets, caplog):
    add_val(pets, "val")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.png", ".hidden/0.png"):
        path = pets / "train" / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert len(load(pets).train) == 8
    assert other_notes(caplog) == []


def test_hidden_images_are_counted(pets, caplog):
    add_val(pets, "val")
    for name in ("train/cat/.0.png", "test/dog/.1.JPG", "test/dog/.notes"):
        (pets / name).write_bytes(b"")
    assert len(load(pets).train) == 8
    (message,) = other_notes(caplog)
    assert message.endswith("2 images are not read, because their names begin with a dot")


def test_pipe_among_images_is_refused_and_not_waited_for(pets):
    os.mkfifo(pets / "train" / "cat" / "9.png")
    refusal(pets, r"train/cat/9\.png: expected an image.* no regular file")


def test_files_of_other_suffixes_are_counted(pets, caplog):
    add_val(pets, "val")
    for name in ("train/cat/4.heic", "train/dog/4.HEIC", "test/cat/old/notes", "train/labels.csv"):
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_bytes(b"")
    load(pets)
    (message,) = other_notes(caplog)
    expected = "4 files are not read, because of their suffix: .csv (1), .heic (2), none (1)"
    assert message.endswith(expected)


def test_all_damaged_files_of_all_splits_are_listed_at_once(pets):
    for name in ("train/cat/1.png", "train/dog/0.png", "test/cat/1.png"):
        (pets / name).write_bytes((pets / name).read_bytes()[:40])
    (pets / "test" / "dog" / "9.png").symlink_to("nowhere")
    message = refusal(pets, "received 4 of 13 files that PIL cannot read")
    for name in ("train/cat/1.png", "train/dog/0.png", "test/cat/1.png", "test/dog/9.png"):
        assert name in message


def test_images_of_several_sizes_get_the_median_of_their_shorter_sides(pets, caplog):
    write(pets / "train" / "dog" / "0.png", size=(20, 17))
    write(pets / "test" / "dog" / "1.png", size=(40, 24))
    assert load(pets).test.images.shape == (4, 16, 16, 3)
    said = ("3 sizes; 16×16 pixels is taken, the median of", "12 of 12 images are brought to 16×16")
    assert [sum(text in message for message in caplog.messages) for text in said] == [1, 1]


def test_a_single_class_is_named_as_its_folder(tmp_path):
    for what in ("train", "test"):
        write(tmp_path / what / "cat" / "0.png")
    refusal(tmp_path, "at least two classes, received only class 'cat'")


def test_images_of_several_frames_are_counted(pets, caplog):
    add_val(pets, "val")
    for i in (0, 1):
        frames = [Image.new("L", (20, 16), level) for level in (10, 200)]
        frames[0].save(
            pets / "train" / "cat" / f"a{i}.gif", save_all=True, append_images=frames[1:]
        )
    assert load(pets).train.images[-6:-4, 0, 0, 0].tolist() == [10, 10]
    (message,) = other_notes(caplog)
    assert message.endswith("2 of 16 images have several frames; the first is read")


def test_link_that_leads_in_a_circle_is_followed_once(pets):
    (pets / "extra").symlink_to(pets, target_is_directory=True)
    assert len(load(pets).test) == 4


# --- options ----------------------------------------------------------------------------------


def test_background_and_channels_reach_the_images(pets):
    for name in ("train", "test"):
        write(pets / name / "cat" / "0.png", (9, 9, 9, 0), mode="RGBA")
    assert load(pets).test.images[0, 0, 0].tolist() == [255, 255, 255]
    assert load(pets, background="#0080ff").test.images[0, 0, 0].tolist() == [0, 128, 255]
    grey = load(pets, channels=1, background=(7, 7, 7)).test.images
    assert grey.shape == (4, 16, 20, 1)
    assert grey[:, 0, 0, 0].tolist() == [7, 1, 100, 101]


def test_scale_reaches_images_of_unknown_depth(pets):
    deep = Image.fromarray(np.full((16, 20), 0.5, np.float32))
    deep.save(pets / "test" / "cat" / "0.tif")
    refusal(pets, r"test/cat/0\.tif: expected a known value of white, received mode F")
    assert load(pets, scale=1.0).test.images[1, 0, 0].tolist() == [128] * 3


def test_options_of_image_files_are_refused_for_other_data(tmp_path, monkeypatch):
    read = {"cluttered_digits": lambda *_: pytest.fail("read before it is refused")}
    monkeypatch.setattr("keras_ddnn.data.datasets.DATASETS", read)
    for option in ({"scale": 255}, {"background": "#000000"}):
        with pytest.raises(ValueError, match="which cluttered_digits does not hold"):
            load("cluttered_digits", **option)
    with pytest.raises(ValueError, match="background must be #rrggbb"):
        load(tmp_path, background="transparent")


def test_folders_of_eight_bit_images_read_as_ever(pets):
    """Their fingerprint is part of the address of every result that people have."""
    add_val(pets, "val")
    files = sorted(Path(pets).glob("train/*/*.png"))
    expected = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    np.testing.assert_array_equal(load(pets).train.images, expected)
