"""A source video of any frame rate, read forward as 25 frames a second, one frame in memory.

Frame i is what the video shows at i / 25 s: frames are repeated or left out by their time stamps,
never by their number. Rotation and pixel aspect are applied. Axes: h height, w width.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from infinitetalk.errors import UnsupportedMedia, VideoInvalid, VideoTooLarge
from infinitetalk.media import ffmpeg
from infinitetalk.media.image import check_shape
from infinitetalk.media.probe import MediaInfo, VideoStream, probe, sniff_container
from infinitetalk.spec import FPS

_BY_TIME = f"fps={FPS}:start_time=0"
_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"  # otherwise all is 1.7 levels too dark
_WHOLE = 0.9  # of the declared duration must decode, or the file was cut off
MOST_PIXELS = 3600 * FPS * 1920 * 1080  # of all frames together: an hour of 1080p


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video that decodes: its frames at 25 a second and its size as shown, in pixels."""

    frames: int
    height: int
    width: int


def check_video(path: Path, max_megapixels: float, most_pixels: int = MOST_PIXELS) -> VideoInfo:
    """Decode a video once from end to end.

    Args:
        max_megapixels: of one frame.
        most_pixels: of all frames together.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
        UnsupportedMedia: it is no video container we take.
        VideoInvalid: it has no video track, no frame decodes, its shape suits no portrait, or it
            was cut off: less than 90 % of the declared duration decodes.
        VideoTooLarge: its header names more pixels than allowed, and nothing was decoded then; or
            its frames are more, and decoding stopped there.
    """
    info, stream = _describe(path, max_megapixels)
    most_frames = most_pixels // (stream.width * stream.height)
    _check_frames(path, (info.duration_s or 0.0) * FPS, most_frames)
    until = ["-frames:v", str(most_frames + 1)]
    try:
        frames = ffmpeg.count_frames([*_pictures(path, max_megapixels), "-vf", _BY_TIME, *until])
    except ffmpeg.FFmpegFailed as failed:
        raise VideoInvalid(f"{path.name} does not decode.") from failed
    _check_frames(path, frames, most_frames)
    if frames == 0:
        raise VideoInvalid(f"No frame of {path.name} decodes.")
    if _is_cut_off(path, info, frames / FPS):
        raise VideoInvalid(f"{path.name} was cut off: its end is missing.")
    height, width = stream.display_size
    return VideoInfo(frames, height, width)


class VideoFrames:
    """The frames of a video at 25 a second, `height` x `width` pixels each.

    Reading forward is cheap; going back starts again at the beginning. To be closed, or used in
    a `with` block: that ends ffmpeg.

    Raises:
        FileMissing, UnsupportedMedia, VideoInvalid, VideoTooLarge: as `check_video`.
    """

    def __init__(self, path: Path, *, max_megapixels: float) -> None:
        self._name = path.name
        _, stream = _describe(path, max_megapixels)
        self.height, self.width = stream.display_size
        # The size is forced, because a track may change it half way.
        chain = f"{_BY_TIME},scale={self.width}:{self.height}:{_EXACT},format=rgb24"
        self._arguments = [*_pictures(path, max_megapixels), "-vf", chain]
        self._shown, self._index = b"", -1
        self._blocks = self._decode()

    def frame(self, index: int) -> np.ndarray:  # -> h w 3
        """What is shown at `index` / 25 s, uint8 RGB; after the end the last frame.

        Raises:
            VideoInvalid: the video does not decode.
        """
        if index < self._index:
            self.close()
            self._index, self._blocks = -1, self._decode()
        while self._index < index and (block := next(self._blocks, None)) is not None:
            self._shown, self._index = block, self._index + 1
        if not self._shown:
            raise VideoInvalid(f"No frame of {self._name} decodes.")
        shown = np.frombuffer(self._shown, np.uint8)
        return shown.reshape(self.height, self.width, 3).copy()

    def close(self) -> None:
        self._blocks.close()

    def _decode(self) -> Generator[bytes, None, None]:
        size = self.height * self.width * 3
        raw = ["-f", "rawvideo", "-fps_mode", "passthrough", "pipe:1"]
        try:
            with ffmpeg.reading([*self._arguments, *raw]) as pipe:
                while len(block := pipe.read(size)) == size:
                    yield block
        except ffmpeg.FFmpegFailed as failed:
            raise VideoInvalid(f"{self._name} does not decode.") from failed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _describe(path: Path, max_megapixels: float) -> tuple[MediaInfo, VideoStream]:
    try:
        info = probe(path)
    except UnsupportedMedia as error:
        if sniff_container(path) is None:
            raise
        raise VideoInvalid(f"{path.name} is damaged, it cannot be opened.") from error
    stream = info.video
    if stream is None:
        raise VideoInvalid(f"{path.name} has no video track.")
    height, width = stream.display_size
    if max(height * width, stream.height * stream.width) > max_megapixels * 1e6:
        raise VideoTooLarge(
            f"{path.name} is {width}x{height}, more than {max_megapixels:g} megapixels."
        )
    if reason := check_shape(height, width):
        raise VideoInvalid(f"{path.name} {reason}.")
    return info, stream


def _check_frames(path: Path, frames: float, most: int) -> None:
    if frames > most:
        raise VideoTooLarge(f"{path.name} is too long for its size: at most {most / FPS:.0f} s.")


def _pictures(path: Path, max_megapixels: float) -> list[str]:
    """Arguments that open the video track; ffmpeg itself turns it upright."""
    # The header is only a claim: the decoder holds the limit as well. Sizes are rounded up to
    # whole blocks there.
    limit = ["-max_pixels", str(int(max_megapixels * 1.2e6) + 65536)]
    return [*limit, *ffmpeg.opening(path), "-map", "0:V:0"]


def _is_cut_off(path: Path, info: MediaInfo, decoded_s: float) -> bool:
    declared_s = info.duration_s or 0.0
    if decoded_s >= _WHOLE * declared_s:
        return False
    # A short picture under a longer sound is no damage, unless the sound breaks off as well.
    return info.audio is None or _sound_seconds(path) < _WHOLE * declared_s


def _sound_seconds(path: Path) -> float:
    rate = 8000
    sound = ["-map", "0:a:0", "-ac", "1", "-ar", str(rate), "-f", "s16le", "pipe:1"]
    samples = 0
    try:
        with ffmpeg.reading([*ffmpeg.opening(path), *sound]) as pipe:
            while block := pipe.read(1 << 16):
                samples += len(block) // 2
    except ffmpeg.FFmpegFailed:  # what came out before counts
        pass
    return samples / rate
