"""Image files whose values mean something else than they seem to."""

import contextlib
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, PngImagePlugin

from transfer import images

RANDOM = np.random.default_rng(0)


def chunk(kind, content):
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png16(path, values, more=b""):
    """Writes a PNG of 16 bits per channel, which Pillow does not write in colour."""
    height, width, channels = values.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))
    return path


def tiff(path, tags, *strips, order="<"):
    """Writes a TIFF of 8 x 8 pixels with tags that Pillow does not write."""
    tags = {256: [8], 257: [8], 273: strips, 277: [len(tags[258])], 278: [8]} | tags
    tags[279] = [len(strip) for strip in strips]
    lists = 8 + 2 + 12 * len(tags) + 4  # where the values are that don't fit into a tag
    pixels = lists + sum(2 * len(values) for values in tags.values() if len(values) > 2)
    tags[273] = [pixels + sum(tags[279][:number]) for number in range(len(strips))]
    entries, behind = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        place = struct.pack(f"{order}I", lists + len(behind))
        entries += struct.pack(f"{order}HHI", tag, 3, len(values))
        entries += place if len(packed) > 4 else packed.ljust(4, b"\0")
        behind += packed if len(packed) > 4 else b""
    start = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    path.write_bytes(start + entries + bytes(4) + behind + b"".join(strips))
    return path


def test_dark_drawings_on_a_transparent_ground_are_not_dark(tmp_path):
    values = np.full((9, 9, 4), 5000)
    values[:4, :, 3], values[4:, :, 3] = 65535, 0
    pixels = images.read(png16(tmp_path / "a.png", values), 64)
    assert (pixels[:4] == 19).all() and (pixels[4:] == 255).all()


def test_grey_images_of_16_bits_where_white_is_zero_or_one_value_is_transparent(tmp_path):
    for photometric, grey in ((0, 21), (1, 233)):
        path = tmp_path / f"{photometric}.tif"
        Image.fromarray(np.full((9, 9), 60000, "u2")).save(path, tiffinfo={262: photometric})
        assert (images.read(path, 64) == grey).all()
    values = np.full((9, 9, 1), 257 * 100)
    values[:4] = 0
    clear = png16(tmp_path / "a.png", values, chunk(b"tRNS", b"\0\0"))
    pixels = images.read(clear, 64)
    assert (pixels[:4] == 255).all() and (pixels[4:] == 100).all()


def test_a_png_that_ends_in_zeros_is_damaged(tmp_path):
    path = tmp_path / "a.png"
    ramp = np.tile(np.linspace(0, 255, 200), (200, 1)) + RANDOM.integers(0, 3, (200, 200))
    Image.fromarray(np.uint8(ramp.clip(0, 255))).save(path)
    content = path.read_bytes()
    kept = len(content) * 6 // 10
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(OSError, match="damaged"):
        images.read(path, 64)


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert images.find([str(tmp_path)]) == [tmp_path]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone_in_a_tiff_of_any_mode(tmp_path, mode, orientation):
    upright = np.zeros((20, 30), "u1")
    upright[:10, :15] = 200
    stored = [  # by the corner at which row 0 and column 0 of the file lie
        upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1], upright.T,
        np.rot90(upright), np.rot90(upright, 2).T, np.rot90(upright, -1),
    ][orientation - 1]  # fmt: skip
    image = Image.fromarray(stored)
    image = image.convert(mode) if mode != "I;16" else Image.fromarray(stored.astype("u2") * 257)
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    pixels = np.asarray(images.decode(tmp_path / "a.tif"))
    assert pixels.shape == (20, 30, 3)
    np.testing.assert_allclose(pixels[..., 0], upright, atol=1)


def test_odd_exif_data_of_a_rotated_photograph_do_no_harm(tmp_path):
    orientation = struct.pack(">HHIHH", 274, 3, 1, 6, 0)
    resolution = struct.pack(">HHI4s", 282, 2, 3, b"72\0\0")  # as text, which should be a fraction
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + orientation + resolution + bytes(4)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.jpg", exif=exif)
    assert images.decode(tmp_path / "a.jpg").size == (20, 30)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_an_orientation_in_xmp_alone_turns_nothing(tmp_path, suffix):
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    exif = Image.Exif()
    exif[271] = "camera"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    more = {".tif": {"tiffinfo": {700: xmp}}, ".png": {"pnginfo": text}}.get(suffix, {"xmp": xmp})
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (30, 20), "red").save(path, exif=exif, **more)
    with Image.open(path) as image:
        assert image.getexif()[274] == 6
    assert images.decode(path).size == (30, 20)


@pytest.mark.parametrize("colours", [None, 2])
def test_a_gif_is_white_around_a_small_first_frame(tmp_path, colours):
    frame = Image.new("L", (9, 6))
    frame = frame.quantize(colours) if colours else frame
    content = io.BytesIO()
    frame.save(content, "GIF")
    written = bytearray(content.getvalue())
    written[6:10] = struct.pack("<HH", 30, 20)  # the whole
    at = written.rindex(struct.pack("<4H", 0, 0, 9, 6))
    written[at : at + 4] = struct.pack("<HH", 4, 5)
    (tmp_path / "a.gif").write_bytes(written)
    expected = np.full((20, 30, 3), 255)
    expected[5:11, 4:13] = 0
    np.testing.assert_array_equal(images.decode(tmp_path / "a.gif"), expected)


def test_a_dark_image_with_a_few_clear_pixels_is_refused(tmp_path):
    values = np.full((16, 16, 4), 4000)
    values[..., 3] = 65535
    values[0, 0, 3] = 0
    with pytest.raises(images.Refused, match="would be dark"):
        images.read(png16(tmp_path / "a.png", values), 64)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hot_pixel_or_a_scale_bar_makes_no_dark_image_bright(tmp_path, channels):
    scan = RANDOM.integers(100, 4000, (40, 40, channels))
    for name, rows, columns in (
        ("hot", slice(3, 4), slice(5, 6)),
        ("bar", slice(37, 38), slice(9)),
    ):
        values = scan.copy()
        values[rows, columns] = 65535
        with pytest.raises(images.Refused, match="would be dark"):
            images.read(png16(tmp_path / f"{name}.png", values), 64)


def test_a_palette_of_8_bits_in_a_tiff_as_old_programs_wrote_it(tmp_path):
    palette = [200, 30, 0, 0, 60, 180, 0, 0, 20, 90, 0, 0]  # four reds, greens and blues
    for times in (1, 257):
        tags = {258: [2], 262: [3], 320: [value * times for value in palette]}
        pixels = images.read(tiff(tmp_path / "a.tif", tags, b"\0\x55" * 8), 64)
        assert (pixels[:, :4] == [200, 60, 20]).all() and (pixels[:, 4:] == [30, 180, 90]).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "bits", "sample"), [("f4", 32, 3), ("i4", 32, 2)])
def test_compressed_values_of_either_byte_order(tmp_path, order, kind, bits, sample):
    values = np.repeat(np.arange(8)[:, np.newaxis] * 30 * 257, 8, axis=1)
    tags = {258: [bits], 259: [8], 262: [1], 339: [sample]}
    packed = zlib.compress(values.astype(order + kind).tobytes())
    pixels = images.read(tiff(tmp_path / "a.tif", tags, packed, order=order), 64)
    np.testing.assert_array_equal(pixels[..., 0], values // 257)


@pytest.mark.parametrize(("compression", "encoded"), [(1, bytes), (8, zlib.compress)])
def test_values_of_12_bits_that_the_file_says_it_has(tmp_path, compression, encoded):
    row = bytes.fromhex("000 7ff 800 fff".replace(" ", "") * 2)
    tags = {258: [12], 259: [compression], 262: [1]}
    pixels = images.read(tiff(tmp_path / "a.tif", tags, encoded(row * 8)), 64)
    assert (pixels[..., 0] == [0, 127, 127, 255] * 2).all()


def test_few_bright_pixels_of_a_sound_image_are_enough(tmp_path):
    sky = RANDOM.integers(2000, 6000, (60, 60, 1))
    spread = np.exp(-((np.arange(5) - 2) ** 2) / 2)
    sky[10:15, 20:25, 0] += (50_000 * np.outer(spread, spread)).astype(int)  # one star
    assert (sky > 64 * 257).mean() < 0.01
    drawing = np.zeros((60, 60, 1))
    drawing[30, 10:20] = 65535
    for name, values in (("sky", sky), ("drawing", drawing)):
        assert images.read(png16(tmp_path / f"{name}.png", values), 64).max() > 190


def test_the_transparent_colour_of_a_png_is_in_its_own_bits(tmp_path):
    header = struct.pack(">IIBBBBB", 2, 2, 4, 0, 0, 0, 0)  # grey of 4 bits: 5 and 9
    content = chunk(b"IHDR", header) + chunk(b"tRNS", b"\0\5")
    content += chunk(b"IDAT", zlib.compress(b"\0\x59" * 2)) + chunk(b"IEND", b"")
    (tmp_path / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(images.read(tmp_path / "4.png", 9)[0, :, 0], [255, 153])
    values = np.full((9, 9, 3), 200 * 257)
    values[0] = 100 * 257
    clear = png16(tmp_path / "16.png", values, chunk(b"tRNS", struct.pack(">3H", *[100 * 257] * 3)))
    np.testing.assert_array_equal(images.read(clear, 9)[:2, 0, 0], [255, 200])
    values[:, 5:, 2] += 1  # another colour
    clear = png16(tmp_path / "16.png", values, chunk(b"tRNS", struct.pack(">3H", *[100 * 257] * 3)))
    np.testing.assert_array_equal(images.read(clear, 9)[0, :, 0], [255] * 5 + [100] * 4)


def test_a_dark_bmp_of_16_bits_in_all_is_read(tmp_path):
    rows = np.full((8, 8), (3 << 11) + (6 << 5) + 3, "<u2").tobytes()  # RGB565
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    info = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, len(rows), 0, 0, 0, 0)
    start = struct.pack("<2sIHHI", b"BM", 66 + len(rows), 0, 0, 66)
    (tmp_path / "a.bmp").write_bytes(start + info + masks + rows)
    assert images.read(tmp_path / "a.bmp", 64).max() < 30


@pytest.mark.parametrize("exif", [bytes(20), b"garbage" * 3, b"II*\0", b""])
def test_damaged_exif_data_do_not_make_a_photograph_damaged(tmp_path, exif):
    # With a density of its own, Pillow does not read the EXIF data when it opens a JPEG.
    for name, more in (("a.jpg", {"dpi": (72, 72)}), ("a.png", {}), ("a.webp", {})):
        image = Image.new("RGB", (30, 20), "red")
        image.save(tmp_path / name, exif=b"Exif\0\0" + exif, **more)
        assert images.decode(tmp_path / name).size == (30, 20)


def test_a_large_colour_profile_is_no_damage(tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png", icc_profile=bytes(2_000_000))
    assert (images.read(tmp_path / "a.png", 64) == [255, 0, 0]).all()
    assert images.side(tmp_path / "a.png") == 9


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"II*\0" + struct.pack("<IH", 8, 0) + bytes(9), "a kind of TIFF that can't be read"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "is HEIC.*convert it"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "is HEIC, JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
        (b"\xff\x0a" + bytes(99), "JPEG XL"),
        (b"\0\0\0\x1cftypavif" + bytes(99), "is damaged"),
        (b"RIFF\0\0\0\0" + bytes(99), "is damaged: its header"),
        (b"<html>not found</html>", "is not an image"),
    ],
)
def test_what_is_no_readable_image_is_called_what_it_is(tmp_path, content, words, capfd):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(OSError, match=words):
        images.read(tmp_path / "a.jpg", 64)
    assert capfd.readouterr().err == ""


def test_sound_files_of_rare_kinds_are_not_just_called_damaged(tmp_path):
    subsampled = {258: [8] * 3, 262: [6], 530: [2, 2]}  # uncompressed YCbCr
    separate = {258: [8] * 4, 262: [2], 284: [2], 338: [1]}  # premultiplied, each channel by itself
    two_bits = struct.pack("<2sIHHI", b"BM", 102, 0, 0, 70)
    two_bits += struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 2, 0, 32, 0, 0, 4, 0) + bytes(16 + 32)
    (tmp_path / "a.bmp").write_bytes(two_bits)
    for path, words in (
        (tiff(tmp_path / "a.tif", subsampled, bytes(96)), "is a kind of TIFF that can't be read"),
        (tiff(tmp_path / "b.tif", separate, *[bytes(64)] * 4), "of a rare kind.*save it as PNG"),
        (tmp_path / "a.bmp", "of a rare kind.*save it as PNG"),
    ):
        with pytest.raises((OSError, images.Refused), match=words):
            images.read(path, 64)


def test_a_webp_that_ends_in_zeros_is_damaged(tmp_path):
    path = tmp_path / "a.webp"
    Image.fromarray(RANDOM.integers(0, 256, (99, 99, 3), "u1")).save(path)
    content = path.read_bytes()
    assert images.read(path, 64).shape == (64, 64, 3)
    kept = len(content) * 6 // 10
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(OSError, match="damaged: it ends in zeros"):
        images.read(path, 64)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_jpeg_whose_end_was_never_written_is_damaged(tmp_path, kept):
    path = tmp_path / "a.jpg"
    image = Image.fromarray(RANDOM.integers(0, 256, (300, 300, 3), "u1"))
    thumbnail = io.BytesIO()
    image.resize((64, 64)).save(thumbnail, "JPEG")
    # In the header, as a camera's thumbnail, which has an end of its own.
    image.save(path, quality=98, exif=b"Exif\0\0" + thumbnail.getvalue())
    content = path.read_bytes()
    path.write_bytes(content + bytes(1000))
    assert images.read(path, 64).shape == (64, 64, 3)
    missing = len(content) - int(kept * len(content))
    path.write_bytes(content[:-missing] + bytes(missing))
    with pytest.raises(OSError, match="damaged: it ends in zeros"):
        images.read(path, 64)


def test_a_long_file_that_ends_in_zeros_is_not_read_into_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), "u1")).save(path)
    for kept, sound in ((path.stat().st_size, True), (path.stat().st_size - 2, False)):
        os.truncate(path, kept)
        os.truncate(path, 50_000_000)
        tracemalloc.start()
        with contextlib.nullcontext() if sound else pytest.raises(OSError, match="in zeros"):
            images.decode(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 10_000_000
    # Blocks that end in the middle of the marker, too.
    os.truncate(path, kept)
    path.write_bytes(path.read_bytes() + b"\xff\xd9" + bytes(100))
    for size in range(1, 110):
        monkeypatch.setattr(images, "BLOCK", size)
        assert images.decode(path).size == (40, 40)


def test_a_tiff_of_16_bits_with_each_channel_by_itself_is_refused(tmp_path):
    channels = [bytes(range(128))] * 3
    tiff(tmp_path / "a.tif", {258: [16] * 3, 262: [2], 284: [2]}, *channels)
    with pytest.raises(images.Refused, match="16 bits per channel, each channel by itself"):
        images.read(tmp_path / "a.tif", 64)


def test_padding_behind_a_webp_is_no_damage(tmp_path):
    path, exif = tmp_path / "a.webp", Image.Exif()
    exif[0xEA1C] = bytes(2060)  # as Windows Explorer pads it
    Image.fromarray(RANDOM.integers(0, 256, (40, 40, 3), "u1")).save(path, exif=exif)
    assert images.read(path, 64).shape == (40, 40, 3)
    content = path.read_bytes()
    end = content.index(b"EXIF")
    path.write_bytes(content[: end - 400] + bytes(400) + content[end:])
    with pytest.raises(OSError, match="damaged: it ends in zeros"):
        images.read(path, 64)


def test_negative_values_of_8_bits_are_refused(tmp_path):
    for values, sound in ((np.arange(99), True), (np.arange(99) + 100, False)):
        image = Image.fromarray(np.uint8(values.reshape(9, 11)))
        image.save(tmp_path / "a.tif", tiffinfo={339: 2})
        if sound:
            assert images.decode(tmp_path / "a.tif").size == (11, 9)
        else:
            with pytest.raises(images.Refused, match="negative"):
                images.decode(tmp_path / "a.tif")
    # Is 32,767 white in them, or 65,535?
    image = Image.fromarray(np.full((9, 11), 32_767, "u2"))
    image.save(tmp_path / "a.tif", tiffinfo={339: 2})
    with pytest.raises(images.Refused, match="signed 16-bit values"):
        images.decode(tmp_path / "a.tif")


def test_grey_that_is_premultiplied_by_its_opacity(tmp_path):
    image = Image.fromarray(np.full((9, 11, 2), 64, "u1"), "LA")  # white, a quarter opaque
    path = tmp_path / "a.tif"
    image.save(path)
    kinds = [struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1)]  # of the extra sample
    assert kinds[0] in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(*kinds))
    assert (np.asarray(images.decode(tmp_path / "a.tif")) >= 254).all()


HEIC = """
import sys
from pathlib import Path
from PIL import Image
from transfer import images

for path in map(Path, sys.argv[1:]):
    with Image.open(path) as image:
        image.save(path.with_suffix(".heic"), quality=100)
    print(*images.read(path.with_suffix(".heic"), 64)[8, 8])
"""


def in_heic(*paths):
    """Writes images as HEIC beside them; returns the colour of each near its upper left corner."""
    code = [sys.executable, "-c", HEIC, *paths]
    result = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    return [[int(value) for value in line.split()] for line in result.stdout.splitlines()]


def test_heic_is_upright_and_on_white(tmp_path):
    upright = Image.new("RGB", (64, 64), "blue")
    upright.paste("red", (0, 0, 32, 32))
    upright.save(tmp_path / "upright.png")
    turned = Image.Exif()
    turned[0x112] = 6  # to be rotated by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=turned)
    clear = upright.copy()
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    found = in_heic(*(tmp_path / name for name in ("upright.png", "turned.jpg", "clear.png")))
    np.testing.assert_allclose(found, [[255, 0, 0], [255, 0, 0], [255, 255, 255]], atol=12)


def test_a_folder_of_heic(tmp_path, command):
    for name, red in (("a", 60), ("b", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            path = tmp_path / "images" / name / f"{number}.png"
            Image.new("RGB", (64, 64), (red, 20 * number, 0)).save(path)
    paths = sorted(tmp_path.rglob("*.png"))
    in_heic(*paths)
    for path in paths:
        path.unlink()
    # What a telephone sends as JPEG may be HEIC.
    first = paths[0].with_suffix(".heic")
    first.rename(paths[0].with_suffix(".jpg"))
    preview = ("data.py", tmp_path / "images", "--output", tmp_path / "preview.png")
    result = command(*preview)
    assert result.status == 0, result.err
    assert "24 images" in result.out and "left out" not in result.out
    whole = paths[1].with_suffix(".heic")
    whole.write_bytes(whole.read_bytes()[:-20])
    result = command(*preview)
    assert result.status == 2 and result.err.startswith(f"data.py: {whole} is damaged")
    assert result.err.count("\n") == 2  # that line and how many there are


def test_heic_that_cant_be_read_says_what_to_install(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    with pytest.raises(OSError, match="pip install -r requirements-heic.txt"):
        images.read(tmp_path / "a.heic", 64)
