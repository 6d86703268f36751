"""Pictures: untrusted bytes to upright RGB, and the cover-resize to a size the model knows.

Axes: n masks, h height, w width. All pictures are uint8 RGB.
"""

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from infinitetalk.errors import FileMissing, ImageInvalid, ImageTooLarge, UnsupportedMedia
from infinitetalk.media.probe import is_picture
from infinitetalk.spec import BucketTable

MIN_SIDE = 16  # pixels; below this no face can be told
MAX_ASPECT = 8.0  # longer over shorter side

_FORMATS = ("JPEG", "PNG", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise on malformed bytes.
_MALFORMED = (
    *(OSError, EOFError, ValueError, SyntaxError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, NotImplementedError, struct.error, zlib.error),
)


def load_portrait(path: Path, *, max_megapixels: float) -> np.ndarray:  # -> h w 3
    """A still JPEG, PNG or WebP as upright RGB; what is transparent becomes white.

    White, because a cut-out portrait was made to be seen on a page: its soft edges blend into
    white without a halo.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
        UnsupportedMedia: it is no JPEG, PNG or WebP, or it is animated.
        ImageTooLarge: its header names more pixels than allowed; nothing was decoded then.
        ImageInvalid: it does not decode, or its shape suits no portrait.
    """
    if not is_picture(path):
        raise UnsupportedMedia(f"{path.name} is no JPEG, PNG or WebP picture.")
    _check_png_size(path, max_megapixels)
    with _reading(path), Image.open(path, formats=_FORMATS) as image:
        _check_header(image, path.name, max_megapixels)
        image.load()
        return np.array(_upright(_rgb(image), _orientation(image)))


def choose_bucket(height: int, width: int, table: BucketTable) -> tuple[int, int]:
    """The (height, width) whose label is nearest to height / width; the first one wins a tie."""
    ratio = height / width
    return table[min(table, key=lambda label: abs(float(label) - ratio))]


def cover_crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # h w 3 -> h w 3
    """Scale until `size` (height, width) is covered, then cut out its centre."""
    height, width = _cover_size(image.shape[:2], size)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return _centre(np.asarray(resized)[None], size)[0]


def cover_crop_mask(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # n h w -> n h w
    """Masks cut to the same place as `cover_crop` cuts the picture, without mixing values."""
    return _centre(nearest(masks, _cover_size(masks.shape[1:], size)), size)


def nearest(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # n h w -> n h w
    """Nearest-neighbour resize by the rule of torch's `interpolate`: index floor(i * in / out)."""
    rows, columns = (_picks(old, new) for old, new in zip(masks.shape[1:], size, strict=True))
    return masks[:, rows][:, :, columns]


def check_shape(height: int, width: int) -> str | None:
    """Why a picture of this shape suits no portrait, None when it does."""
    if min(height, width) < MIN_SIDE:
        return f"is {width}x{height} pixels, both sides must have at least {MIN_SIDE}"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"is {width}x{height} pixels, one side may be at most {MAX_ASPECT:g} times the other"
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of Pillow as ours. Its warnings of decompression bombs count as errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # broken tags, which we drop
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{path.name} has too many pixels.") from error
    except PermissionError as error:
        raise FileMissing(f"{path.name} cannot be read.") from error
    except _MALFORMED as error:
        raise ImageInvalid(f"{path.name} does not decode.") from error


def _check_png_size(path: Path, max_megapixels: float) -> None:
    """A PNG names its size in its first 24 bytes; no more of a bomb is read than these."""
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) == 24 and head.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", head[16:])
        _check_size(width, height, path.name, max_megapixels)


def _check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise ImageTooLarge(f"{name} is {width}x{height}, more than {max_megapixels:g} megapixels.")


def _check_header(image: Image.Image, name: str, max_megapixels: float) -> None:
    _check_size(image.width, image.height, name, max_megapixels)
    # A JPEG of several pictures (MPO) is a photo with a depth or gain map, not an animation.
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise UnsupportedMedia(f"{name} is animated, give a still picture or a video.")
    if reason := check_shape(image.height, image.width):
        raise ImageInvalid(f"{name} {reason}.")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _MALFORMED:  # broken tags do not spoil a good picture
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _cover_size(source: tuple[int, ...], target: tuple[int, int]) -> tuple[int, int]:
    height, width = source
    scale = max(target[0] / height, target[1] / width)
    return math.ceil(scale * height), math.ceil(scale * width)


def _centre(stack: np.ndarray, size: tuple[int, int]) -> np.ndarray:  # n h w ... -> n h w ...
    # round() halves to even, as the reference does.
    top, left = (
        round((have - want) / 2) for have, want in zip(stack.shape[1:3], size, strict=True)
    )
    return np.ascontiguousarray(stack[:, top : top + size[0], left : left + size[1]])


def _picks(old: int, new: int) -> np.ndarray:
    # float32, because torch computes the index in it.
    index = np.arange(new, dtype=np.float32) * np.float32(old / new)
    return np.minimum(index.astype(np.int64), old - 1)
