"""Image files whose values mean something else than they seem to."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

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
