import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from safetensors.numpy import load_file

from infinitetalk.errors import FileMissing, ImageInvalid, ImageTooLarge, UnsupportedMedia
from infinitetalk.media.image import choose_bucket, cover_crop, cover_crop_mask, load_portrait

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)


def load(path: Path, max_megapixels: float = 40) -> np.ndarray:
    return load_portrait(path, max_megapixels=max_megapixels)


def corners(height: int = 48, width: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, yellow bottom right."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = slice(0, height // 2), slice(0, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    picture[top, left], picture[top, right] = RED, GREEN
    picture[bottom, left], picture[bottom, right] = BLUE, YELLOW
    return Image.fromarray(picture)


def png_header(width: int, height: int) -> bytes:
    """A PNG that is nothing but its header and an empty body."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# What the stored picture looks like for each orientation: its corners in reading order.
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(1, "RGBY"), (2, "GRYB"), (3, "YBGR"), (4, "BYRG"),
     (5, "RBGY"), (6, "GYRB"), (7, "YGBR"), (8, "BRYG")],
)  # fmt: skip
@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
def test_the_exif_orientation_is_applied(
    tmp_path: Path, orientation: int, stored: str, extension: str
) -> None:
    upright = np.asarray(corners())
    colours = dict(zip("RGBY", (RED, GREEN, BLUE, YELLOW), strict=True))
    size = (48, 64) if orientation < 5 else (64, 48)
    picture = np.asarray(corners(*size)).copy()
    for name, place in zip(stored, (RED, GREEN, BLUE, YELLOW), strict=True):
        picture[np.all(np.asarray(corners(*size)) == place, axis=-1)] = colours[name]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{extension}"
    Image.fromarray(picture).save(path, exif=exif, quality=95, lossless=True, subsampling=0)
    loaded = load(path)
    assert loaded.shape == upright.shape
    assert np.abs(loaded[4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() < 8


def test_broken_exif_does_not_spoil_a_picture(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage")
    assert load(tmp_path / "a.jpg").shape == (48, 64, 3)


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:16] = (200, 100, 0, 255)
    picture[16:, :16] = (200, 100, 0, 51)  # a fifth
    Image.fromarray(picture).save(tmp_path / "a.png")
    loaded = load(tmp_path / "a.png")
    assert loaded[0, 0].tolist() == [200, 100, 0]
    assert loaded[31, 0].tolist() == [244, 224, 204]
    assert loaded[31, 31].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    extension = "jpg" if mode == "CMYK" else "png"
    if mode == "I;16":
        picture = Image.fromarray(np.full((32, 32), 51400, np.uint16))
    else:
        picture = Image.new("RGB", (32, 32), (255, 255, 255) if mode == "1" else (200, 200, 200))
        picture = picture.convert(mode, palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / f"a.{extension}")
    expected = 255 if mode == "1" else 200
    loaded = load(tmp_path / f"a.{extension}")
    assert loaded.dtype == np.uint8 and loaded.shape == (32, 32, 3)
    assert np.abs(loaded.astype(int) - expected).max() <= 3


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.paste(0, (0, 0, 16, 32))
    picture.save(tmp_path / "a.png", transparency=0)
    loaded = load(tmp_path / "a.png")
    assert (loaded[0, 0].tolist(), loaded[0, 31].tolist()) == ([255] * 3, [10, 20, 30])


@pytest.mark.parametrize(
    ("side", "limit"), [(100_000, 40), (12_000, 40), (12_000, 1000), (64, 0.004)]
)
def test_too_many_pixels_are_refused_before_decoding(
    tmp_path: Path, side: int, limit: float
) -> None:
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    with pytest.raises(ImageTooLarge):
        load(tmp_path / "a.png", limit)


@pytest.mark.parametrize("kind", ["webp", "png", "gif"])
def test_an_animation_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(UnsupportedMedia):
        load(path)


def test_a_photo_with_a_second_picture_is_no_animation(tmp_path: Path) -> None:
    corners().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[corners()])
    assert load(tmp_path / "a.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "ICO", "PDF", "EPS", "PPM", "TGA", "AVIF"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, kind: str) -> None:
    corners().save(tmp_path / "a.png", format=kind)
    with pytest.raises(UnsupportedMedia):
        load(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content",
    [b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(4096),
     b"SIMPLE  =                    T".ljust(2880), b"<svg/>", b"P5 9 9 255\n" + bytes(81),
     b"\x0a\x05\x01\x08" + bytes(200)],
    ids=["psd", "fits", "svg", "pgm", "pcx"],
)  # fmt: skip
def test_bytes_of_other_readers_never_reach_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnsupportedMedia):
        load(tmp_path / "a.png")


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(UnsupportedMedia) as refused:
        load(tmp_path / "a.png")
    assert refused.value.message == "a.png is no JPEG, PNG or WebP picture."


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileMissing):
            load(path)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"a.{kind}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ImageInvalid):
        load(path)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_altered_bytes_only_give_our_errors(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    corners().save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        altered = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            altered[place] = random.integers(0, 256)
        path.write_bytes(altered)
        try:
            load(path, 1)
        except (ImageInvalid, ImageTooLarge, UnsupportedMedia):
            continue


def test_a_bomb_of_text_is_refused(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * (80 << 20), zip=True)
    corners().save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(ImageInvalid):
        load(tmp_path / "a.png")


@pytest.mark.parametrize(
    "kind", ["icc of a jpg", "icc of a png", "exif of a png", "exif of a webp"]
)
def test_endless_words_about_a_picture_are_bounded(tmp_path: Path, kind: str) -> None:
    """Megabytes that say nothing of it are skipped, or refuse the picture; they are not kept."""
    words, _, extension = kind.split(" ", 1)[0], *kind.rsplit(" ", 1)
    told = {"icc_profile" if words == "icc" else "exif": b"Exif\0\0" + b"x" * (8 << 20)}
    corners().save(tmp_path / f"a.{extension}", **told, quality=95, subsampling=0)
    try:
        assert load(tmp_path / f"a.{extension}").shape == (48, 64, 3)
    except ImageInvalid:
        assert words == "icc"


@pytest.mark.parametrize("size", [(15, 64), (64, 15), (1, 1), (16, 129), (129, 16)])
def test_a_shape_that_suits_no_portrait_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    corners(*size).save(tmp_path / "a.png")
    with pytest.raises(ImageInvalid):
        load(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(16, 16), (16, 128), (128, 16)])
def test_the_smallest_shapes_are_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    corners(*size).save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").shape == (*size, 3)


def test_buckets_are_chosen_as_in_the_reference(golden: Path) -> None:
    case = json.loads((golden / "case_buckets/case.json").read_text())
    for resolution, entries in case["tables"].items():
        table = {label: tuple(size) for label, (size, _) in entries.items()}
        for choice in case["choices"]:
            wanted = tuple(choice[resolution]["target_hw"])
            assert choose_bucket(choice["h"], choice["w"], table) == wanted


def test_pictures_and_masks_are_cut_as_in_the_reference(golden: Path) -> None:
    inputs = load_file(golden / "case_buckets/inputs.safetensors")
    outputs = load_file(golden / "case_buckets/outputs.safetensors")
    for name, wanted in outputs.items():
        source, _, text = name.partition("_out_")
        height, width = map(int, text.split("x"))
        if source.startswith("mask"):
            assert np.array_equal(cover_crop_mask(inputs[source], (height, width)), wanted)
        else:
            cut = cover_crop(inputs[source], (height, width))
            assert np.array_equal(cut, wanted[0, :, 0].transpose(1, 2, 0))
    assert len(outputs) == 14
