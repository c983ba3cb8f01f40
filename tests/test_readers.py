"""Image files as pixels: range, transparency, colours, orientation, and what is refused."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from keras_ddnn.data.readers import DEEP, SEVERAL_FRAMES, Unreadable, colour_of, read_image

LEVELS = np.array([[0, 100, 200, 255]], np.uint8)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(image, form="PNG", **kwargs):
    file = io.BytesIO()
    image.save(file, form, **kwargs)
    return file


def pixels_of(file, channels=3, **kwargs):
    return read_image(file, channels, **kwargs).pixels


def grey_levels(file, **kwargs):
    """Return the first row of an image of which all channels must agree."""
    pixels = pixels_of(file, **kwargs)
    assert (pixels == pixels[..., :1]).all()
    np.testing.assert_array_equal(pixels_of(file, 1, **kwargs), pixels[..., :1])
    return pixels[0, :, 0].tolist()


def png(depth, colour_type, row, width=1, see_through=b""):
    """Return a PNG of one row as no part of PIL writes it: 16-bit colours, a tRNS of any depth."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", see_through), (b"IDAT", zlib.compress(b"\0" + row))]
    body = b"".join(chunk(*part) for part in chunks if part[1])
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


# --- range ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_sixteen_bit_grey_has_the_brightness_of_its_eight_bit_twin(form, order):
    deep = Image.fromarray((LEVELS.astype(np.uint16) * 257).astype(order))
    file = saved(deep, form)
    assert grey_levels(file) == LEVELS[0].tolist()
    assert read_image(file).remarks == (DEEP,)


def test_twelve_bit_tiff_is_scaled_by_twelve_bits():
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF])  # 0, 0x800, 0xfff, 0xfff
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    tags.append((279, len(packed)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = 8 + len(packed)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    file = io.BytesIO(struct.pack("<2sHI", b"II", 42, start) + packed + directory)
    assert grey_levels(file) == [0, 128, 255, 255]


def test_sixteen_bit_tiff_whose_zero_is_white_is_not_a_negative():
    deep = Image.fromarray(LEVELS.astype(np.uint16) * 257)
    file = saved(deep, "TIFF", tiffinfo={262: 0})
    if Image.open(file).tag_v2[262] != 0:  # PIL wrote its own: change the entry in place
        content = bytearray(file.getvalue())
        at = content.index(struct.pack("<HHIH", 262, 3, 1, 1))
        content[at + 8] = 0
        file = io.BytesIO(content)
    assert grey_levels(file) == [255, 155, 55, 0]


def test_sixteen_bit_colours_are_right_to_a_level():
    values = [65535, 257 * 100 + 200, 300]
    file = png(16, 2, struct.pack(">3H", *values))
    exact = np.array(values) / 257
    assert np.abs(pixels_of(file)[0, 0] - exact).max() < 1
    assert read_image(file).remarks == (DEEP,)


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_values_without_a_known_white_need_the_scale(mode, dtype):
    file = saved(Image.fromarray(LEVELS.astype(dtype) * 4), "TIFF")
    assert Image.open(file).mode == mode
    with pytest.raises(ValueError, match=f"received mode {mode}.*--scale") as caught:
        read_image(file)
    assert "\n" not in str(caught.value)
    assert grey_levels(file, scale=1020) == LEVELS[0].tolist()


def test_scale_says_what_is_white_in_sixteen_bits_too():
    file = saved(Image.fromarray(LEVELS.astype(np.uint16) * 16))
    assert grey_levels(file, scale=4080) == LEVELS[0].tolist()
    assert grey_levels(saved(Image.fromarray(LEVELS)), scale=4080) == LEVELS[0].tolist()


@pytest.mark.parametrize("value", [-1.0, 101.0, np.nan])
def test_values_beyond_the_scale_are_refused(value):
    file = saved(Image.fromarray(np.array([[5.0, value]], np.float32)), "TIFF")
    with pytest.raises(ValueError, match="expected values of 0 to 100, received"):
        read_image(file, scale=100)


def test_scale_for_colours_of_sixteen_bits_is_refused():
    file = png(16, 2, struct.pack(">3H", 1, 2, 3))
    with pytest.raises(ValueError, match="expected grey values for --scale"):
        read_image(file, scale=4095)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), "white"])
def test_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be positive"):
        read_image(saved(Image.fromarray(LEVELS)), scale=scale)


# --- transparency -----------------------------------------------------------------------------


def transparent(mode):
    """Return red, of which the second pixel is transparent and hides green."""
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (*GREEN, 0))
    return image.convert(mode)


def test_transparent_pixels_show_the_background_and_not_what_they_hide():
    file = saved(transparent("RGBA"))
    assert pixels_of(file).tolist() == [[[*RED], [255, 255, 255]]]
    assert pixels_of(file, background=BLUE).tolist() == [[[*RED], [*BLUE]]]
    half = saved(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert pixels_of(half).tolist() == [[[127, 127, 127]]]


@pytest.mark.parametrize(("mode", "form"), [("LA", "PNG"), ("LA", "TIFF"), ("P", "GIF")])
def test_transparency_of_every_mode_is_seen(mode, form):
    image = transparent("LA") if mode == "LA" else transparent("RGBA")
    pixels = pixels_of(saved(image, form))
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert pixels[0, 0].tolist() == ([76, 76, 76] if mode == "LA" else [*RED])


def test_palette_with_transparency_is_composited():
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    expected = [[*RED], [255, 255, 255], [127, 127, 255]]
    assert pixels_of(saved(image, transparency=b"\xff\x00\x80"))[0].tolist() == expected


@pytest.mark.parametrize(
    ("file", "see_through"),
    [
        (png(2, 0, bytes([0b00_01_10_11]), 4, struct.pack(">H", 2)), 2),
        (png(8, 0, bytes([0, 85, 170, 255]), 4, struct.pack(">H", 170)), 2),
        (png(16, 0, struct.pack(">4H", 0, 21845, 43690, 65535), 4, struct.pack(">H", 0)), 0),
    ],
    ids=["2 bits", "8 bits", "16 bits"],
)
def test_grey_level_that_means_transparent_is_seen_in_every_depth(file, see_through):
    pixels = pixels_of(file, background=RED)
    levels = [[level] * 3 for level in (0, 85, 170, 255)]
    levels[see_through] = [*RED]
    assert pixels[0].tolist() == levels


def test_colour_that_means_transparent_is_seen_in_sixteen_bits():
    colour = struct.pack(">3H", 65535, 25700, 300)
    assert pixels_of(png(16, 2, colour, 1, colour), background=BLUE)[0, 0].tolist() == [*BLUE]


@pytest.mark.parametrize(
    ("given", "colour"),
    [
        (None, (255, 255, 255)),
        ("#0080ff", (0, 128, 255)),
        ("0,128,255", (0, 128, 255)),
        ("0 128 255", (0, 128, 255)),
        ([0, 128, 255], (0, 128, 255)),
    ],
)
def test_colours_are_read_as_people_write_them(given, colour):
    assert colour_of(given) == colour


@pytest.mark.parametrize("given", ["#08f", "red", "1,2", "1,2,256", (1, 2, 3, 4), (0.5, 0, 0), ""])
def test_what_is_no_colour_is_refused(given):
    with pytest.raises(ValueError, match="background must be #rrggbb or three numbers"):
        colour_of(given)


# --- colours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "form"), [("1", "PNG"), ("L", "PNG"), ("RGB", "BMP"), ("CMYK", "TIFF"), ("P", "PNG")]
)
def test_common_modes_read_as_pil_shows_them(mode, form):
    image = Image.radial_gradient("L").resize((20, 16)).convert("RGB").convert(mode)
    file = saved(image, form)
    np.testing.assert_array_equal(pixels_of(file), np.asarray(image.convert("RGB")))
    assert pixels_of(file, 1).shape == (16, 20, 1)
    assert read_image(file).remarks == ()


def test_lab_keeps_its_colours():
    colours = Image.new("RGB", (3, 1))
    colours.putdata([(200, 30, 30), (90, 160, 110), (128, 128, 128)])
    profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    lab = ImageCms.profileToProfile(colours, *profiles, outputMode="LAB")
    file = saved(lab, "TIFF")
    assert np.abs(pixels_of(file).astype(int) - np.asarray(colours)).max() <= 3
    grey = np.asarray(colours.convert("L")).astype(int)
    assert np.abs(pixels_of(file, 1)[..., 0] - grey).max() <= 3


# --- orientation ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_photo_taken_upright_is_upright(form):
    """A camera held upright stores rows as columns, and says so."""
    upright = np.zeros((24, 20, 3), np.uint8)
    upright[:12] = 255  # a bright sky
    exif = Image.Exif()
    exif[274] = 6  # turn clockwise to view
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    pixels = pixels_of(saved(stored, form, exif=exif))
    assert pixels.shape == (24, 20, 3)
    assert pixels[:8].min() >= 250
    assert pixels[16:].max() <= 5


UPRIGHT = {  # EXIF orientation -> what is stored, of the array that is seen
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: np.rot90,
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
FORMS = [
    *(("TIFF", mode, kind) for mode in ("L", "I;16", "RGB") for kind in ("raw", "tiff_lzw")),
    *(("PNG", mode, None) for mode in ("L", "I;16", "RGB")),
    *(("JPEG", mode, None) for mode in ("L", "RGB")),
]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("form", "mode", "compression"), FORMS)
def test_file_of_every_orientation_reads_as_the_upright_array(
    tmp_path, form, mode, compression, orientation
):
    across, down = np.arange(24) * 8, np.arange(16) * 4
    seen = (down[:, None] + across).astype(np.uint8)  # in no direction like itself
    if mode == "RGB":
        seen = np.stack([seen, seen // 2, 255 - seen], axis=-1)
    stored = np.ascontiguousarray(UPRIGHT[orientation](seen))
    if mode == "I;16":
        stored = stored.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "photo"
    options = {"compression": compression} if compression else {}
    if form == "JPEG":
        options = {"quality": 100, "subsampling": 0}
    Image.fromarray(stored).save(path, form, exif=exif, **options)
    pixels = pixels_of(path).astype(int)
    expected = seen if mode == "RGB" else np.repeat(seen[..., None], 3, axis=2)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (4 if form == "JPEG" else 0)


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP"])
def test_first_of_several_frames_is_read_and_remarked_on(form):
    frames = [Image.new("RGB", (20, 16), colour) for colour in (RED, BLUE)]
    kwargs = {"lossless": True} if form == "WEBP" else {}
    file = saved(frames[0], form, save_all=True, append_images=frames[1:], **kwargs)
    picture = read_image(file)
    assert (picture.pixels == RED).all()
    assert picture.remarks == (SEVERAL_FRAMES,)
    assert read_image(saved(frames[0], form)).remarks == ()


# --- damage -----------------------------------------------------------------------------------


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_damaged_file_is_refused_in_one_line(form, tmp_path):
    content = saved(noise(), form).getvalue()
    for end in (0, 10, len(content) // 2):
        path = tmp_path / f"{end}.image"
        path.write_bytes(content[:end])
        with pytest.raises(Unreadable, match=f"{path}: expected an image") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "0.png")  # of which a reader waits for a writer
    (tmp_path / "1.png").symlink_to("/dev/zero")
    for name in ("0.png", "1.png"):
        with pytest.raises(Unreadable, match=f"{name}: expected an image.* no regular file"):
            read_image(tmp_path / name)


def outcome(content):
    """Return the pixels of a file, or the reason why it has none."""
    try:
        return pixels_of(io.BytesIO(content))
    except ValueError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of odd but readable files
@pytest.mark.parametrize("form", ["GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_file_of_flipped_bytes_is_read_or_refused_in_one_line(form):
    rng = np.random.default_rng(0)
    content = np.frombuffer(saved(noise(), form).getvalue(), np.uint8)
    for _ in range(40):
        broken = content.copy()
        broken[rng.integers(0, min(len(broken), 400), 4)] = rng.integers(0, 256, 4)
        result = outcome(broken.tobytes())
        assert isinstance(result, np.ndarray) or "\n" not in result


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [0.9, 0.4], ids=["PIL warns", "PIL refuses"])
def test_image_too_large_to_trust_is_refused_in_one_line(monkeypatch, share):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 * 64 * share))
    with pytest.raises(
        ValueError, match=r"expected an image of at most .*MAX_IMAGE_PIXELS"
    ) as caught:
        read_image(saved(noise()))
    assert "\n" not in str(caught.value)


def test_only_one_or_three_channels_are_read():
    with pytest.raises(ValueError, match="unknown number of channels 4; known: 1, 3"):
        read_image(saved(noise()), 4)
