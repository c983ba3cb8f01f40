"""Folders of photographs as people have them: each oddity to the pixel, and from folder to service.

What single files hold is asserted in test_readers.py, what is passed over or refused in
test_folders.py, sizes and the cache in test_image_cache.py, damaged files in both.
"""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_ddnn
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.serve.demo import running_cloud

ROOT = Path(__file__).parent.parent
GREY = "#808080"
BELOW = (128, 128, 128)
LOSSLESS = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
TURNS = Image.Transpose
STORED = {  # EXIF orientation -> how a camera stores what is seen
    1: None,
    2: TURNS.FLIP_LEFT_RIGHT,
    3: TURNS.ROTATE_180,
    4: TURNS.FLIP_TOP_BOTTOM,
    5: TURNS.TRANSPOSE,
    6: TURNS.ROTATE_90,
    7: TURNS.TRANSVERSE,
    8: TURNS.ROTATE_270,
}


# --- writers: what is seen, uint8 (h, w, 3), as a file; they return what must be read ------------


def in_mode(mode: str, seen: np.ndarray, path: Path) -> np.ndarray:
    """Write in a mode of PIL, of which the colours are those that PIL converts back."""
    image = Image.fromarray(seen).convert(mode)
    image.save(path, **LOSSLESS.get(path.suffix[1:], {}))
    return np.asarray((Image.open(path) if path.suffix == ".jpg" else image).convert("RGB"))


def turned(orientation: int, seen: np.ndarray, path: Path) -> np.ndarray:
    image, turn = Image.fromarray(seen), STORED[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored = image if turn is None else image.transpose(turn)
    stored.save(path, exif=exif, **LOSSLESS.get(path.suffix[1:], {}))
    return seen


def deep(seen: np.ndarray, path: Path) -> np.ndarray:
    """Write grey of 16 bits, in which 257 is what 1 is in 8 bits."""
    grey = np.asarray(Image.fromarray(seen).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    return np.repeat(grey[..., None], 3, axis=2)


def see_through(mode: str, seen: np.ndarray, path: Path) -> np.ndarray:
    """Write an image whose left third is transparent, over the negative of what is seen."""
    left = seen.shape[1] // 3
    hidden = np.concatenate([255 - seen[:, :left], seen[:, left:]], axis=1)
    alpha = np.full((*seen.shape[:2], 1), 255, np.uint8)
    alpha[:, :left] = 0
    image = Image.fromarray(np.concatenate([hidden, alpha], axis=2)).convert(mode)
    image.save(path, **LOSSLESS.get(path.suffix[1:], {}))
    shown = np.array(image.convert("RGB"))
    shown[:, :left] = BELOW
    return shown


def see_through_palette(seen: np.ndarray, path: Path) -> np.ndarray:
    """Write 16 grey levels, of which the seventh means transparent."""
    levels = np.asarray(Image.fromarray(seen).convert("L")) // 16
    image = Image.fromarray(levels, "P")
    image.putpalette(np.repeat(np.arange(16, dtype=np.uint8) * 17, 3).tobytes())
    image.save(path, transparency=7)
    shown = np.repeat((levels * 17)[..., None], 3, axis=2)
    shown[levels == 7] = BELOW
    return shown


def of_frames(seen: np.ndarray, path: Path) -> np.ndarray:
    """Write two frames, of which the second is the negative."""
    frames = [Image.fromarray(array) for array in (seen, 255 - seen)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **LOSSLESS["webp"])
    return seen


WRITERS = {
    **{f"plain.{kind}": partial(in_mode, "RGB") for kind in ("png", "tif", "bmp", "webp", "jpg")},
    **{
        f"turned {k}.{kind}": partial(turned, k)
        for k in STORED
        for kind in ("png", "tif", "webp", "jpg")
    },
    **{f"grey.{kind}": partial(in_mode, "L") for kind in ("png", "tif", "bmp", "jpg")},
    **{f"16 bits.{kind}": deep for kind in ("png", "tif")},
    **{f"RGBA.{kind}": partial(see_through, "RGBA") for kind in ("png", "tif", "webp")},
    **{f"LA.{kind}": partial(see_through, "LA") for kind in ("png", "tif")},
    **{f"P.{kind}": partial(in_mode, "P") for kind in ("png", "tif", "bmp", "gif")},
    "see-through P.png": see_through_palette,
    **{f"CMYK.{kind}": partial(in_mode, "CMYK") for kind in ("tif", "jpg")},
    "frames.webp": of_frames,
}


# --- to the pixel -------------------------------------------------------------------------------


def a_picture() -> np.ndarray:
    """Return 32×48 pixels that look in no direction like themselves."""
    level = (np.arange(32)[:, None] * 3 + np.arange(48) * 2).astype(np.uint8)
    return np.stack([level, level // 2, 255 - level], axis=2)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A folder of one class of odd files, and one of the same pictures as plain PNG files."""
    root = tmp_path_factory.mktemp("twins") / "photos"
    for what in ("train", "val", "test"):
        for name in ("odd", "plain"):
            (root / what / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(root / what / name / "last.png")
    for k, (name, write) in enumerate(WRITERS.items()):
        shown = write(a_picture(), root / "train" / "odd" / f"{k:03} {name}")
        Image.fromarray(shown).save(root / "train" / "plain" / f"{k:03}.png")
    odd = root / "train" / "odd"
    for left in ("Thumbs.db", ".DS_Store", "._000 plain.png", ".hidden.png"):
        (odd / left).write_bytes(b"no image")
    (odd / "000 cut.png").write_bytes((odd / "000 plain.png").read_bytes()[:60])
    return root


@pytest.mark.parametrize("fit", ["resize", "crop_to_aspect_ratio", "pad_to_aspect_ratio"])
def test_each_odd_file_is_its_plain_twin_to_the_pixel(twins, fit):
    options = {"image_size": (24, 16), "fit": fit, "background": GREY, "skip_unreadable": True}
    splits = keras_ddnn.load(twins, **options)
    assert splits.reading == {"fit": fit, "background": BELOW, "scale": None}
    train = splits.train
    assert train.images.shape == (2 * len(WRITERS) + 2, 24, 16, 3)
    odd, plain = (train.images[train.labels == k][:-1].astype(int) for k in (0, 1))
    for name, found, expected in zip(WRITERS, odd, plain, strict=True):
        # What a turned JPEG loses is not turned with it.
        allowed = 4 if re.fullmatch(r"turned .\.jpg", name) else 0
        assert np.abs(found - expected).max() <= allowed, name


def test_twins_show_what_was_seen(twins):
    """The colours of a twin are those of the picture: only grey, P and transparency change them."""
    for k, name in enumerate(WRITERS):
        shown = np.asarray(Image.open(twins / "train" / "plain" / f"{k:03}.png")).astype(int)
        if name.split()[0].split(".")[0] in ("plain", "turned", "CMYK", "frames"):
            assert np.abs(shown - a_picture()).max() <= 8 * name.endswith("jpg"), name


STEP = [0, 0, 0, 0, 10, 30, 50, 70, 90, 110, 130, 150, 160, 160, 160, 160]  # 160·(j - 3.5) / 8
WIDE = [0] * 6 + [20, 60, 100, 140] + [160] * 6  # the same of four pixels 0, 0, 160, 160


@pytest.mark.parametrize(
    ("pixels", "fit", "expected"),
    [
        ([[0, 160]] * 2, "resize", [STEP] * 16),
        ([[0, 0, 160, 160]] * 2, "resize", [WIDE] * 16),
        ([[0, 0, 160, 160]] * 2, "crop_to_aspect_ratio", [STEP] * 16),
        ([[0, 0, 160, 160]] * 2, "pad_to_aspect_ratio", [[128] * 16] * 4 + [WIDE] * 8),
    ],
)
def test_small_images_are_enlarged_along_a_straight_line(tmp_path, pixels, fit, expected):
    for what in ("train", "val", "test"):
        for name in ("a", "b"):
            (tmp_path / what / name).mkdir(parents=True)
            file = tmp_path / what / name / "0.png"
            Image.fromarray(np.array(pixels, np.uint8)).save(file)
    found = keras_ddnn.load(tmp_path, image_size=16, fit=fit, background=GREY).test.images[0]
    assert found[: len(expected), :, 0].tolist() == expected


# --- from a folder to a service -----------------------------------------------------------------

CLASSES = {"day": 215, "dusk": 128, "night": 40}  # and how bright they are
SIZES = [(20 + 7 * (k % 10), 24 + 9 * (k // 10)) for k in range(100)]


def photographs(root: Path, counts: dict[str, int], seed: int) -> None:
    """Write photographs of each class, in a hundred sizes and in turn by each writer."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat(list(counts), list(counts.values())))
    writers = list(WRITERS.items())
    for k, name in enumerate(names):
        height, width = SIZES[k % len(SIZES)]
        slope = np.linspace(-20, 20, height)[:, None, None] + np.linspace(-10, 10, width)[:, None]
        noise = rng.normal(0, 15, (height, width, 3))
        seen = (CLASSES[name] + slope + noise).clip(0, 255).astype(np.uint8)
        (root / name).mkdir(parents=True, exist_ok=True)
        kind, write = writers[k % len(writers)]
        write(seen, root / name / f"{k:04} {kind}")


SEARCH = (
    "--preset quickstart --epochs 4 --lambda-local 0.5 --class-weight balanced "
    "--input logits_plus logits_rich --target hard --anchored no --num-cpus 1 "
    f"--image-size 32 --fit crop_to_aspect_ratio --background {GREY} --skip-unreadable"
)


@pytest.mark.slow
def test_a_folder_of_a_thousand_photographs_becomes_a_service(tmp_path):
    folder, unseen = tmp_path / "photos", tmp_path / "unseen"
    photographs(folder, {"day": 440, "dusk": 120, "night": 440}, seed=0)
    photographs(unseen, {"day": 60, "dusk": 20, "night": 60}, seed=1)
    damaged = sorted(folder.glob("*/*0 *"))[:5]
    for file in damaged:
        file.write_bytes(file.read_bytes()[:30])
    for name in ("Thumbs.db", "day/.DS_Store", "day/._0.jpg", "night/.1.jpg", "night/notes.txt"):
        (folder / name).write_bytes(b"no image")

    command = [sys.executable, "-m", "tune.search", "--dataset", str(folder), *SEARCH.split()]
    search = run([*command, "--output", str(tmp_path / "run")])
    notes = [line for line in search.stderr.splitlines() if line.startswith("note: ")]
    for words in (
        "photos is not split: of 1,000 images become 200 test data, 80 validation data, 720 train",
        "1 files are not read, because of their suffix: .txt (1)",
        "1 images are not read, because their names begin with a dot",
        "5 of 1,000 files are skipped, for PIL cannot read them: ",
        "images are brought to 32×32 pixels by crop_to_aspect_ratio",
        "images have several frames; the first is read",
        "images have more than 8 bits a value; 8 are kept",
        "classes 0 to 2 are the folders 'day', 'dusk', 'night', in this order",
    ):
        assert sum(words in note for note in notes) == 1, (words, notes)
    (skipped,) = (note for note in notes if "are skipped" in note)
    assert all(file.name in skipped for file in damaged)
    assert "Traceback" not in search.stderr
    reading = {"fit": "crop_to_aspect_ratio", "background": [*BELOW], "scale": None}
    assert read_manifest(tmp_path / "run" / "artifact")["reading"] == reading

    # Without --fit and --background the device reads images as the artefact says.
    with running_cloud(tmp_path / "run") as port:
        command = [sys.executable, "-m", "keras_ddnn.serve.edge", str(tmp_path / "run")]
        cloud = ["--cloud", f"http://127.0.0.1:{port}", "--deadline-ms", "20000", "--batch", "20"]
        device = run([*command, *cloud, "--images", str(unseen)])
    assert "140 of 140 images are brought to 32×32 pixels by crop_to_aspect_ratio" in device.stderr
    assert "for the training images" not in device.stderr
    report = {
        name.strip(): value.strip()
        for name, value in (
            line.split(": ") for line in device.stdout.splitlines() if line.count(": ") == 1
        )
    }
    local, cloud, fallback = (
        int(report[name].split()[0])
        for name in (
            "answered here",
            "answered by the cloud",
            "answered here, as the cloud did not answer",
        )
    )
    assert (local + cloud, fallback) == (140, 0)
    assert cloud > 0
    assert float(report["accuracy"].rstrip("%")) >= 80.0


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done
