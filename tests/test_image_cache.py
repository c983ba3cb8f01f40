"""Folders of images are decoded once, to one size, and never read half-written or out of date."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ddnn.data.readers import read_image, upright_size
from keras_ddnn.data.rows import decoding, images, kept
from keras_ddnn.data.rows.images import read_groups
from keras_ddnn.data.rows.sizes import common_size, fitted, size_of
from keras_ddnn.data.rows.view import MappedFile
from keras_ddnn.data.splits import Split, Splits

ROOT = Path(__file__).parent.parent
WHITE = (255, 255, 255)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DDNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """Twelve images of 16×20 pixels, the i-th of level 10·i, written a while ago."""
    root = tmp_path / "pets"
    root.mkdir()
    for i in range(12):
        Image.new("L", (20, 16), 10 * i).save(root / f"{i:02}.png")
    aged(root)
    return root


def aged(root, seconds=10):
    """Let files be old enough that their times tell whether they change."""
    now = time.time_ns()
    for file in root.iterdir():
        os.utime(file, ns=(now, now - seconds * 10**9))


@pytest.fixture
def reads(monkeypatch):
    """Return the names of the files that have been decoded since it was cleared, as a list."""
    names = []

    def read(file, *args, **kwargs):
        names.append(file.name)
        return read_image(file, *args, **kwargs)

    monkeypatch.setattr(decoding, "read_image", read)
    # Inode times cannot be set: all files of a test are recent by them.
    monkeypatch.setattr(decoding, "RECENT", -(10**18))
    return names


def load(root, **options):
    files = sorted(root.glob("*.png"))
    return read_groups([files[:8], files[8:]], root, **options)


def levels(pairs):
    return [pixels[:, 0, 0, 0].tolist() for pixels, _ in pairs]


# --- found again ------------------------------------------------------------------------------


def test_images_are_decoded_once_and_mapped_then(folder, reads, caplog):
    first = load(folder)
    assert len(reads) == 12
    assert levels(first) == [[10 * i for i in range(8)], [80, 90, 100, 110]]
    assert "12 images are decoded once, into" in caplog.text
    again = load(folder)
    assert len(reads) == 12
    assert levels(again) == levels(first)
    assert all(isinstance(pixels, np.memmap) for pixels, _ in again)
    assert "12 decoded images are read from" in caplog.text


def test_other_groups_of_the_same_files_share_the_array(folder, reads):
    load(folder)
    files = sorted(folder.glob("*.png"))
    ((odd, _), (even, _)) = read_groups([files[1::2], files[::2]], folder)
    assert len(reads) == 12
    assert odd[:, 0, 0, 0].tolist() == [10, 30, 50, 70, 90, 110]
    assert even[1:3, 0, 0, 0].tolist() == [20, 40]


def test_a_changed_file_alone_is_decoded_again(folder, reads):
    old = load(folder)
    reads.clear()
    Image.new("L", (20, 16), 255).save(folder / "03.png")
    (train, _), _ = load(folder)
    assert train[:, 0, 0, 0].tolist() == [0, 10, 20, 255, 40, 50, 60, 70]
    assert set(reads) == {f"{i:02}.png" for i in range(12)}  # they are one chunk
    assert old[0][0][3, 0, 0, 0] == 30  # who has mapped the old ones keeps them


def test_whoever_opens_the_old_images_by_name_finds_no_others(folder):
    ((train, _), _) = load(folder)
    place = MappedFile.of(train)
    Image.new("L", (20, 16), 255).save(folder / "03.png")
    load(folder)
    with pytest.raises(ValueError, match="cannot be read on this machine"):
        place.open()


def test_only_chunks_with_changed_files_are_decoded_again(folder, reads, monkeypatch):
    monkeypatch.setattr(decoding, "MOST_ROWS", 4)
    load(folder)
    reads.clear()
    Image.new("L", (20, 16), 255).save(folder / "05.png")
    (train, _), _ = load(folder)
    assert sorted(reads) == ["04.png", "05.png", "06.png", "07.png"]
    assert train[5, 0, 0, 0] == 255


def test_a_change_that_no_time_shows_is_noticed_if_it_is_recent(folder):
    """Within a tick of the clock a file can be written twice, with one size and one time."""
    load(folder)
    state = os.stat(folder / "03.png")
    content = (folder / "03.png").read_bytes()
    other = (folder / "04.png").read_bytes()
    assert len(content) == len(other)
    (folder / "03.png").write_bytes(other)
    os.utime(folder / "03.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    (train, _), _ = load(folder)
    assert train[3, 0, 0, 0] == 40


def test_touched_files_are_hashed_and_not_decoded(folder, reads):
    load(folder)
    reads.clear()
    aged(folder, 100)
    load(folder)
    assert reads == []


def test_what_was_decoded_before_files_were_added_is_deleted(folder, cache):
    load(folder)
    Image.new("L", (20, 16), 7).save(folder / "20.png")
    load(folder)
    (array,) = cache.glob("images/*/*.npy")
    assert np.load(array).shape == (13, 16, 20, 3)


def test_other_ways_of_reading_are_other_images(folder):
    assert load(folder)[0][0].shape == (8, 16, 20, 3)
    assert load(folder, channels=1)[0][0].shape == (8, 16, 20, 1)
    assert load(folder, image_size=(17, 30))[0][0].shape == (8, 17, 30, 3)
    assert load(folder, cached=False)[0][0].shape == (8, 16, 20, 3)


@pytest.mark.parametrize("name", ["*.npy", "images.json"])
def test_a_damaged_cache_is_made_anew(folder, cache, name):
    expected = levels(load(folder))
    (file,) = cache.glob(f"images/*/{name}")
    os.truncate(file, file.stat().st_size // 2)
    assert levels(load(folder)) == expected


def test_pixels_damaged_in_the_cache_are_decoded_again(folder, cache, reads):
    right = levels(load(folder))
    for array in cache.glob("images/*/*.npy"):
        content = bytearray(array.read_bytes())
        content[128:] = bytes(len(content) - 128)
        array.write_bytes(content)
    reads.clear()
    assert levels(load(folder)) == right
    assert reads


def test_the_fingerprint_is_that_of_arrays_and_reads_them_once(folder, monkeypatch):
    def splits(pairs):
        train, val = (Split(x, np.arange(len(x)) % 2) for x, _ in pairs)
        return Splits("pets", train, val, val.take([1, 0, 2]), ("a", "b"))

    expected = splits([(np.array(x), k) for x, k in load(folder)]).fingerprint()
    assert splits(load(folder)).fingerprint() == expected

    def blocks(array):
        assert array.ndim == 1, "images are read again"
        yield array

    monkeypatch.setattr("keras_ddnn.data.rows.fingerprint.blocks", blocks)
    assert splits(load(folder)).fingerprint() == expected


# --- whole or not at all ----------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from keras_ddnn.data.rows import decoding
from keras_ddnn.data.rows.images import read_groups
read = decoding.read_image
def slowly(*args, **kwargs):
    time.sleep(0.01)
    return read(*args, **kwargs)
decoding.read_image, decoding.MOST_ROWS = slowly, 4
root = Path(sys.argv[1])
read_groups([sorted(root.glob("*.png"))], root)
"""


def test_after_five_kills_nothing_half_written_is_used(tmp_path, cache, reads, monkeypatch):
    root = tmp_path / "many"
    root.mkdir()
    for i in range(200):
        Image.new("L", (16, 16), i).save(root / f"{i:03}.png")
    random.seed(0)
    noted = 0
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", KILLED, root], cwd=ROOT)
        while (now := sum(f.stat().st_size for f in cache.glob("images/*/chunks.jsonl"))) <= noted:
            assert process.poll() is None
            time.sleep(0.005)
        noted = now
        time.sleep(random.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(cache.glob("images/*/images.json"))
    # As a disk that lost power: what is noted last may not be what is written.
    (part,) = cache.glob("images/*.part")
    with open(part / "chunks.jsonl", "ab") as notes:
        notes.write(b'[9, "torn')
    with open(part / "images.npy", "r+b") as pixels:
        pixels.seek(200)
        pixels.write(b"\xff")
    monkeypatch.setattr(decoding, "MOST_ROWS", 4)
    files = sorted(root.glob("*.png"))
    ((found, _),) = read_groups([files], root)
    assert found[:, 3, 5, 1].tolist() == list(range(200))
    assert (np.ptp(found, axis=(1, 2, 3)) == 0).all()
    assert 0 < len(reads) < 200  # it was resumed


def test_a_cache_that_cannot_be_written_is_said_and_done_without(folder, cache, caplog):
    cache.write_text("a file, where a folder is expected")
    (train, _), _ = load(folder)
    assert type(train) is np.ndarray
    assert train[:, 0, 0, 0].tolist() == [10 * i for i in range(8)]
    assert "images are kept in memory, for the cache folder cannot be written" in caplog.text


def test_a_full_disk_is_said_and_nothing_is_left_behind(folder, cache, caplog, monkeypatch):
    def full(file, content, offset):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_at", full)
    assert levels(load(folder))[1] == [80, 90, 100, 110]
    assert "cannot be written (No space left on device)" in caplog.text
    assert not list(cache.glob("images/*/*"))


def test_images_that_fit_neither_on_disk_nor_in_memory_are_refused(folder, cache, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=0)
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(images, "available_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"fit in memory, .*KERAS_DDNN_CACHE name a folder"):
        load(folder)


def test_damaged_files_are_listed_or_skipped_and_decoded_when_mended(folder, caplog):
    whole = (folder / "03.png").read_bytes()
    for name in ("03.png", "09.png"):
        (folder / name).write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"received 2 of 12 files .* read: 03\.png, 09\.png: mend"):
        load(folder)
    (train, readable), (test, _) = load(folder, skip_unreadable=True)
    assert readable.tolist() == [i != 3 for i in range(8)]
    assert train[:, 0, 0, 0].tolist() == [0, 10, 20, 40, 50, 60, 70]
    assert test[:, 0, 0, 0].tolist() == [80, 100, 110]
    assert "2 of 12 files are skipped, for PIL cannot read them: 03.png, 09.png" in caplog.text
    (folder / "03.png").write_bytes(whole)
    assert load(folder, skip_unreadable=True)[0][0][3, 0, 0, 0] == 30


# --- sizes ------------------------------------------------------------------------------------


def test_the_median_of_the_shorter_sides_is_taken(tmp_path, caplog):
    for i, size in enumerate([(20, 40), (30, 31), (50, 32), (16, 60), (90, 90)]):
        Image.new("L", size).save(tmp_path / f"{i}.png")
    ((found, _),) = read_groups([sorted(tmp_path.glob("*.png"))], tmp_path)
    assert found.shape == (5, 30, 30, 3)
    assert "images have 5 sizes; 30×30 pixels is taken, the median" in caplog.text
    assert "5 of 5 images are brought to 30×30 pixels by resize" in caplog.text
    size, words = common_size({(4000, 3000): 2, (500, 400): 1})
    assert size == (224, 224)
    assert "at most 224" in words


@pytest.mark.parametrize("given", [(24, 32), [24, 32], "24x32", "24×32"])
def test_a_size_is_height_and_width(given):
    assert size_of(given) == (24, 32)
    assert (size_of("96"), size_of(96), size_of(None)) == ((96, 96), (96, 96), None)


@pytest.mark.parametrize("given", ["x", "24x", "1x2x3", 0, (24, -1), "24.5", (1.5, 2), ""])
def test_another_size_is_refused(given):
    with pytest.raises(ValueError, match="image_size: expected one side, or height and width"):
        size_of(given)


HALVES = np.repeat(np.array([[0, 0, 200, 200, 200, 200, 0, 0]], np.uint8), 4, axis=0)[..., None]
# Weights of a triangle as wide as four pixels: 200·0.25 / 1.75, and 200·1.75 / 2.
SHRUNK = [29, 175, 175, 29]


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop_to_aspect_ratio", [[200] * 4] * 4),  # the middle 4×4 of 4×8
        ("resize", [SHRUNK] * 4),
        ("pad_to_aspect_ratio", [[255] * 4, SHRUNK, SHRUNK, [255] * 4]),
    ],
)
def test_images_are_fitted_as_keras_does(fit, expected):
    found = fitted(HALVES, (4, 4), fit, WHITE)[..., 0]
    assert found.tolist() == expected


def test_an_image_of_that_size_is_kept_to_the_digit():
    assert fitted(HALVES, (4, 8), "crop_to_aspect_ratio", WHITE) is HALVES


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_size_of_the_upright_image(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (20, 16)).save(tmp_path / f"0.{kind}", exif=exif)
    found = read_image(tmp_path / f"0.{kind}").pixels.shape[:2]
    assert upright_size(tmp_path / f"0.{kind}") == found


def test_a_header_that_errs_changes_no_pixel(folder, monkeypatch):
    monkeypatch.setattr(decoding, "upright_size", lambda file: (20, 16))
    assert load(folder)[0][0].shape == (8, 16, 20, 3)
    assert load(folder, cached=False)[0][0].shape == (8, 16, 20, 3)
