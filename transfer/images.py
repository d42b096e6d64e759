"""Reads image files of eight formats, in any orientation, of up to 100 megapixels."""

import contextlib
import glob
import hashlib
import logging
import mimetypes
import os
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    YCBCRSUBSAMPLING,
)

from transfer import terminal

Image.init()
with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()
READ_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
# AVIF is not in every build of Pillow; HEIF, of which HEIC is a kind, needs requirements-heic.txt.
FORMATS = [name for name in READ_FORMATS if name in Image.OPEN]
SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
READS_HEIC = "HEIF" in FORMATS
INSTALL_HEIC = "" if READS_HEIC else ", or for HEIC run pip install -r requirements-heic.txt"
NOT_DOWNLOADED = ".icloud"  # of a hidden file that stands for one in iCloud
# Images all the same, whether or not the system's list of file types has them.
UNREADABLE = {
    ".heic", ".heif", ".jxl", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".psd", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw", ".tga", ".dib", ".dds", ".qoi", ".icns", ".wdp", ".dcm",
    NOT_DOWNLOADED,
}  # fmt: skip
# Never images, and there may be one beside each image, so they are not opened.
TEXTS = {
    ".csv", ".htm", ".html", ".js", ".json", ".log", ".md", ".py", ".pyc", ".tsv", ".txt", ".xml", ".yaml", ".yml",
}  # fmt: skip
# Made by systems, not by the user; upper or lower case.
JUNK = {
    "__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "desktop.ini",
}  # fmt: skip
# Of these formats, Pillow may take zeros at the end of a file for a part of the image.
ZEROS_READ = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF")
BLOCK = 1 << 16  # bytes of a file that are read at once
SMALL_FILE = 100  # bytes, up to which a whole image may end in zeros
# What undoes the orientation that EXIF data give (Exif 2.3, section 4.6.4 A).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# By which Pillow multiplies a PNG's levels of grey, but not the one that is transparent.
STEPS = {"L;2": 85, "L;4": 17}
# Compressed values come in this machine's order, whatever the file's, which Pillow forgets for these.
NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS"}
# Images whose values are all below it use 14 bits of 16 or fewer, or 6 of 8, and would be dark.
DARK = 64
# The fraction of an image's values, 0 aside, below which one that all others are below doesn't count.
FEW = 0.01
# The fraction of pixels, not opaque, above which a dark image counts as a drawing on a transparent ground.
GROUND = 0.05
# Of EXIF data that are damaged, Pillow takes what it can.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
# An image is refused by its header: a few bytes can stand for more pixels than there is memory.
LARGEST_SIDE = 30_000
LARGEST_AREA = 100_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which warns, where `read` refuses
# A colour profile or a text in a PNG may take as much as Pillow allows all of them together.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# Pillow prints what it can't read of a TIFF; `decode` says it in its own words.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
# How files of a format that is read begin.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
# The brands of files of boxes, AVIF's and HEIC's (ISO/IEC 23008-12, annex B).
BRANDS = {b"avif"} | ({b"heic", b"heix", b"heim", b"heis", b"mif1"} if READS_HEIC else set())
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_TIFF = "is a kind of TIFF that can't be read: save it as PNG, or with 8 bits per channel, in grey or RGB"
# How Pillow's errors begin on what it knows but can't read, unless it is damage.
RARE = ("Unsupported", "unknown raw mode")


class Refused(ValueError):
    """An image that is not decoded: of too many pixels, of values that mean no colour, or a pipe."""


def find(names: Iterable[str]) -> list[Path]:
    """Finds images.

    Args:
        names: Files, folders (all images in them and below) and patterns such as `*.jpg`.

    Returns:
        List of paths, in the order of `names`, sorted within each. A name that matches nothing
        is among them, and so are images of an unreadable format: `read` says what is wrong.
    """
    found = []
    for name in names:
        there = os.path.lexists(name)
        paths = [name] if there else _once(glob.glob(name, recursive=True)) or [name]
        expanded = []
        for path in map(Path, paths):
            expanded += (_below(path) if os.path.isdir(path) else []) or [path]
        found += expanded if there else _once(expanded)
    return found


def _once(paths):
    """Sorts paths, and leaves out what `**` finds again: in a folder, or through a link to one above it."""
    found = {}
    for path in sorted(paths, key=lambda path: len(str(path))):
        found.setdefault((os.path.realpath(os.path.dirname(path)), os.path.basename(path)), path)
    return sorted(found.values())


def _below(folder):
    found, entered = [], set()

    def unreadable(error):
        found.append(Path(error.filename))

    for parent, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:  # through a link
            folders.clear()
            continue
        entered.add(real)
        folders[:] = (name for name in folders if not is_hidden(name))
        paths = (Path(parent, name) for name in files if not is_hidden(name))
        found += (
            path
            for path in paths
            if (path.suffix.lower() in SUFFIXES or means_image(path)) and not is_plot(path)
        )
    return sorted(found)


def is_hidden(name: str) -> bool:
    """Says whether a file or folder of that name is hidden, and stands for no image, or is the system's."""
    return (name.startswith(".") and not name.endswith(NOT_DOWNLOADED)) or name.casefold() in JUNK


def is_plot(path: Path) -> bool:
    """Says whether an image is a plot of this project, which is no image of the user's."""
    with contextlib.suppress(OSError):
        return path.suffix.lower() == ".png" and path.is_file() and terminal.is_plot(path)
    return False


def means_image(path: Path) -> bool:
    """Says whether a file is an image of whatever format: by its name, or else by its content."""
    suffix = path.suffix.lower()
    if suffix in UNREADABLE:
        return True
    kind, _ = mimetypes.guess_type(path.name)
    medium = (kind or "").partition("/")[0]
    if suffix in TEXTS or medium in ("image", "audio", "video"):
        return medium == "image"
    return side(path) > 0 or (os.path.isfile(path) and _is_foreign(_start(path)))


def _start(path):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(12)
    return b""


def _is_foreign(start):
    """Says whether a file that begins so is JPEG 2000, JPEG XL, a video or, if it can't be read, HEIC."""
    box, brand = start[4:8], start[8:12]
    return (box in (b"ftyp", b"jP  ", b"JXL ") and brand not in BRANDS) or start[:2] == b"\xff\x0a"


def side(path: Path) -> int:
    """Side of an image's largest square, in pixels, by its header; 0 where it can't be read."""
    if not os.path.isfile(path):  # to open a pipe would wait for a writer
        return 0
    try:
        with Image.open(path, formats=FORMATS) as image:
            return min(image.size)
    except Exception:  # noqa: BLE001  (as in `decode`, which says what is wrong)
        return 0


def frames(path: Path) -> int:
    """Counts the pages or frames of an image that can be read, of which `read` reads the first."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            # MPO is a photograph in JPEG and what the camera made of it, such as a preview.
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Exception:  # noqa: BLE001  (what is damaged behind the first one is not read)
        return 1


def digest(pixels: np.ndarray) -> bytes:
    """Returns the sha256 of an image's size and pixels, uint8 (height, width, 3)."""
    sha256 = hashlib.sha256(f"{pixels.shape}".encode())
    sha256.update(pixels.tobytes())
    return sha256.digest()


def brightest(image: Image.Image) -> int:
    """Returns the largest value of an image of mode L or RGB, without one that few of its values have.

    They are hot pixels, or a scale bar that was drawn into it. The stars of a night sky are few, too,
    but of many values, so that the second largest tells as much.
    """
    counts = np.reshape(image.histogram(), (-1, 256)).sum(axis=0)
    values = np.flatnonzero(counts)
    few = counts[values[-1]] < FEW * counts[1:].sum()
    return int(values[-2 if few else -1])


def refuse_dark(name: str, brightest: int) -> None:
    """Refuses 8-bit images that are ones and zeros, as masks are, or have values of four to six bits.

    Args:
        name: What the error calls them.
        brightest: Their largest value.

    Raises:
        ValueError: It is below `DARK`, but not 0.
    """
    if 0 < brightest < DARK:
        raise ValueError(
            f"{name} has only the values 0 {'and' if brightest == 1 else 'to'} {brightest}: expected 0 "
            f"(black) to 255 (white); multiply them by {255 // brightest}"
        )


def read(path: Path, largest: int, enlarge: bool = False) -> np.ndarray:
    """Reads the largest central square of an image, shrunk to at most `largest` pixels a side.

    With `enlarge`, a smaller one is brought to that side, as those of a folder are to train on.

    The image is rotated as its EXIF data say and put on white where it is transparent; of an
    animation or of several pages the first is read.

    Returns:
        uint8 (side, side, 3), RGB.

    Raises:
        OSError: It can't be read, is not an image, or is damaged.
        Refused: It has more pixels than `LARGEST_AREA`, or a side above `LARGEST_SIDE`, or is a pipe;
            it has values that are negative, not finite or beyond those of 16 bits; or it has 16 bits
            per channel but uses too few and would be dark, as 12-bit scans do.
    """
    return np.asarray(square(decode(path), largest, enlarge))


def decode(path: Path) -> Image.Image:
    """Decodes a whole image.

    Returns:
        A `PIL.Image.Image` of mode RGB. Otherwise as `read`.
    """
    try:
        if stat.S_ISFIFO(Path(path).stat().st_mode):  # to open it would wait for a writer
            raise Refused(f"{path} is a pipe: expected a file, of {', '.join(FORMATS)}")
        # By its path, Pillow would map an uncompressed TIFF, with the sides of a rotated one swapped.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if max(width, height) > LARGEST_SIDE or width * height > LARGEST_AREA:
                raise Refused(
                    f"{path} has {width:,} x {height:,} pixels: expected {LARGEST_AREA:,} or fewer, "
                    f"and at most {LARGEST_SIDE:,} a side"
                )
            if image.format == "PNG":  # whose checksums Pillow does not compare when it decodes
                with Image.open(path, formats=FORMATS) as checked:
                    checked.verify()
            return _to_rgb(path, image)
    except UnidentifiedImageError:
        raise OSError(f"{path} {_unidentified(path)}") from None
    except IsADirectoryError:
        raise OSError(f"{path} is a folder without images: expected {', '.join(FORMATS)}") from None
    except Refused:
        raise
    except MemoryError:
        raise OSError(f"{path} can't be read: there is too little memory") from None
    except Exception as error:
        if isinstance(error, FileNotFoundError) and glob.has_magic(str(path)):
            raise OSError(f"{path} matches no file (*, ? and [ are read as a pattern)") from error
        if isinstance(error, OSError) and error.strerror:
            raise OSError(f"{path} can't be read: {error.strerror}") from error
        if str(error).startswith(RARE):
            raise OSError(
                f"{path} is damaged, or of a rare kind ({error}): if another program opens it, save it as PNG"
            ) from error
        raise OSError(f"{path} is damaged: {terminal.first_line(error)}") from error


def _unidentified(path):
    """Says what a file is that Pillow does not take for an image of a format that is read."""
    expected = f"expected {', '.join(FORMATS)}"
    start = _start(path)
    if not start:
        return f"is empty: {expected}"
    if start.startswith(TIFFS):
        return OTHER_TIFF
    if _is_foreign(start):
        return f"is HEIC, JPEG 2000, JPEG XL or a video, whatever its suffix says: {expected}; convert it{INSTALL_HEIC}"
    if start.startswith(SIGNATURES) or start[4:8] == b"ftyp":
        return (
            "is damaged: its header can't be read (or it is of a rare kind: if another program opens it, "
            "save it as PNG)"
        )
    return f"is not an image: {expected}"


def _ends_in_zeros(path, kind):
    """Says whether the end of an image was never written, as of an interrupted download."""
    with open(path, "rb") as file:
        start, end = 0, file.seek(0, os.SEEK_END)
        if kind in ("JPEG", "MPO"):
            # Of nearly all, nothing else needs to be read again.
            return _read(file, end - 1, 1) == b"\0" and not _has_end(file, end)
        if kind == "WEBP":
            start, end = _first_image(file, end)
        fifth = (end - start) // 5  # less may be the end of EXIF data
        return end - start > SMALL_FILE and not any(map(any, _backwards(file, end - fifth, end)))


def _backwards(file, start, end):
    """Yields a part of a file in blocks, the last one first."""
    while end > start:
        place = max(start, end - BLOCK)
        yield _read(file, place, end - place)
        end = place


def _has_end(jpeg, size):
    """Says whether a JPEG has the marker of its end behind its header, which may hold a thumbnail's."""
    start, behind = 2, b""
    while (marker := _read(jpeg, start, 4))[:1] == b"\xff" and marker[1:2] != b"\xda":
        start += 2 + int.from_bytes(marker[2:])
    for block in _backwards(jpeg, start, size):
        if b"\xff\xd9" in block + behind:
            return True
        behind = block[:1]
    return False


def _first_image(webp, size):
    """Returns where a WebP's first image begins and ends: EXIF data, padded with zeros, may follow."""
    start = 12
    while start < size:
        chunk = _read(webp, start, 8)
        kind, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        start += 8
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            return start, min(start + length, size)
        start += length + length % 2
    return 0, size


def _read(file, place, count):
    file.seek(place)
    return file.read(count)


def _turn(image):
    """Returns what undoes the orientation of an image, or None; damaged EXIF data give none."""
    # Where EXIF data give none, Pillow would take that of XMP data, which browsers ignore.
    bare = Image.new("1", (1, 1))
    bare.info = {name: value for name, value in image.info.items() if "xmp" not in name}
    try:
        return UPRIGHT.get(bare.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  (Pillow's parsers raise many kinds)
        return None


def _lower_bits(path):
    """Decodes the lower 8 bits of an RGB PNG of 16 bits per channel, of which Pillow gives the upper ones."""
    with Image.open(path, formats=FORMATS) as image:
        # As if the bytes were in the other order.
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        return image.convert("RGB")


def _to_rgb(path, image):
    # How each tile of the file is decoded: 16 bits a channel are I;16B, RGB;16B and the like.
    kinds = [str(tile.args) for tile in image.tile]
    deep = any(";16" in kind for kind in kinds) and image.format != "BMP"  # which has 16 in all
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    raw = any(tile.codec_name == "raw" for tile in image.tile)
    # Pillow would read it as 8 bits, and YCbCr as if its colours were of full size.
    if raw and tags.get(PLANAR_CONFIGURATION) == 2 and max(tags.get(BITSPERSAMPLE, (8,))) > 8:
        raise Refused(
            f"{path} has 16 bits per channel, each channel by itself and uncompressed, which can't be "
            "read: save it with 8 bits per channel"
        )
    ycbcr = tags.get(PHOTOMETRIC_INTERPRETATION) == 6
    if raw and ycbcr and tags.get(YCBCRSUBSAMPLING, (1, 1)) != (1, 1):
        raise Refused(f"{path} {OTHER_TIFF}")
    for number, tile in enumerate(image.tile):
        if tile.codec_name == "libtiff":
            kind, *others = tile.args
            image.tile[number] = tile._replace(args=(NATIVE.get(kind, kind), *others))
    white_is_zero = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
    clear = image.info.get("transparency")
    if clear is not None and kinds and kinds[0] in STEPS:
        image.info["transparency"] = clear * STEPS[kinds[0]]
    image.info.pop("xmp", None)  # by which Pillow would rotate a TIFF, as in `_turn`
    frame = image.tile[0].extents if image.format == "GIF" else None
    image.load()
    # Pillow raises an error where a file is cut short, but not always where its rest is zeros.
    if image.format in ZEROS_READ and _ends_in_zeros(path, image.format):
        raise OSError("it ends in zeros")
    if isinstance(clear, tuple) and deep:
        del image.info["transparency"]  # which Pillow would compare with the upper 8 bits
        values = np.asarray(image) * np.uint16(256) + np.asarray(_lower_bits(path))
        image.putalpha(Image.fromarray(np.uint8(255 * (values != clear).any(axis=-1))))
    if image.mode == "P" and max(tags.get(COLORMAP, (256,))) < 256:  # of 8 bits, which should be 16
        image.putpalette(np.uint8(tags[COLORMAP]).reshape(3, -1).T.tobytes())
    if any("I;12" in kind for kind in kinds):
        values = np.asarray(image)
        image = Image.fromarray((values << 4) + (values >> 8))  # of 16 bits
    if image.mode == "La":  # grey, premultiplied by its opacity
        image = image.convert("LA")
    signed = 2 in tags.get(SAMPLEFORMAT, ())
    if signed and image.mode == "L" and image.getextrema()[1] > 127:  # those are negative
        raise Refused(f"{path} has negative values: save it with 8 bits per channel, 0 to 255")
    if signed and 16 in tags.get(BITSPERSAMPLE, ()):  # is 32,767 white, or 65,535?
        raise Refused(f"{path} has signed 16-bit values: save it with 8 bits per channel")
    turn = _turn(image)
    image = image if turn is None else image.transpose(turn)
    dark = False
    if image.mode.startswith(("I", "F")):  # which Pillow would cut off at 255
        values = np.asarray(image, np.float32) / 257
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
            raise Refused(
                f"{path} has values beyond those of 16 bits: save it with 8 bits per channel"
            )
        dark = values.max() > 0 and brightest(Image.fromarray(np.uint8(values))) < DARK
        if white_is_zero:
            values = 255 - values
        if (clear := image.info.get("transparency")) is not None:
            values[np.asarray(image) == clear] = 255
        image = Image.fromarray(np.uint8(values))
    elif deep:
        alpha = np.asarray(image.getchannel("A")) if "A" in image.getbands() else np.array(255)
        if (alpha < 255).mean() <= GROUND or alpha.max() < 64:
            dark = 0 < brightest(image.convert("RGB")) < DARK
    if dark:  # of 10, 12 or 14 bits, as cameras have; the file does not say it
        raise Refused(
            f"{path} has 16 bits or more per channel (or floating-point values), but all or nearly all of "
            "its colours use 14 of them or fewer, and would be dark: save it with 8 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if frame:  # around which a GIF is transparent, but Pillow gives it a colour
        whole = Image.new("RGB", image.size, "white")
        whole.paste(image.crop(frame), frame)
        return whole
    return image


def square(image: Image.Image, largest: int, enlarge: bool = False) -> Image.Image:
    """Cuts out a `PIL.Image.Image`'s middle and shrinks it to `largest` pixels a side: see `read`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side <= largest:
        image = image.crop(box)
        return image.resize((largest, largest)) if enlarge else image
    return image.resize((largest, largest), Image.Resampling.BILINEAR, box, reducing_gap=3.0)
