"""Frames and sound to mp4: a self-contained fragment for every window, joined by copying.

A fragment starts with its only keyframe and has no B-frames, so that decoding and showing have
the same order and any fragments follow each other without a jump. A resumed job therefore ends
with the same bytes as one that was never stopped. The sound is encoded once and in one piece, while
the windows are rendered. Axes: f frames, h height, w width.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from infinitetalk.errors import EncodingFailed
from infinitetalk.media import ffmpeg
from infinitetalk.media.publish import publishing
from infinitetalk.media.soundtrack import Soundtrack, sound_graph
from infinitetalk.progress import Canceling
from infinitetalk.spec import FPS

_TIMESCALE = 12800  # ticks a second in the files: 512 for a frame
_TO_YUV = (
    "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,"
    "format=yuv420p,setparams=color_primaries=bt709:color_trc=bt709"
)
_X264 = [
    *("-c:v", "libx264", "-preset", "medium", "-crf", "18"),
    *("-bf", "0", "-g", "1000000", "-sc_threshold", "0"),
    *("-threads", "4"),  # x264's output depends on the number of threads
]
_FRAGMENT = ["-movflags", "+empty_moov+frag_keyframe+default_base_moof+skip_trailer"]
_NO_TAGS = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]


def write_fragment(frames: np.ndarray, target: Path) -> None:  # f h w 3
    """Encode uint8 RGB frames of even size to a fragment at 25 fps; same frames, same bytes.

    Raises:
        EncodingFailed: ffmpeg did not take the frames.
        StorageFull: the disk has no room.
    """
    count, height, width, _ = frames.shape
    assert frames.dtype == np.uint8 and count > 0 and height % 2 == width % 2 == 0
    raw = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}"]
    source = [*raw, "-framerate", str(FPS), "-i", "pipe:0", "-vf", _TO_YUV]
    mp4 = ["-video_track_timescale", str(_TIMESCALE), *_NO_TAGS, *_FRAGMENT, "-f", "mp4"]
    with _encoding(), publishing(target) as part:
        ffmpeg.feed(
            [*source, *_X264, *mp4, f"file:{part}"],
            (np.ascontiguousarray(frame).data for frame in frames),
        )


def write_sound(
    soundtrack: Soundtrack, target: Path, frames: int, canceling: Canceling = lambda: False
) -> None:
    """Encode what is heard during `frames` frames to an mp4 file without pictures.

    Raises:
        FileMissing, UnsupportedMedia, NoAudioStream: a recording is not what it was.
        EncodingFailed: ffmpeg failed.
        StorageFull: the disk has no room.
        Canceled: `canceling` said so.
    """
    sound = sound_graph(soundtrack, frames)
    graph = ["-filter_complex", sound.graph, "-map", "[sound]"]
    with _encoding(), publishing(target) as part:
        mp4 = [*sound.encoder, *_NO_TAGS, "-f", "mp4", f"file:{part}"]
        ffmpeg.work([*sound.inputs, *graph, *mp4], canceling)


@contextmanager
def writing_sound(soundtrack: Soundtrack, target: Path, frames: int) -> Iterator[None]:
    """The same beside what the block does; the file is there when the block ends well, as soon as
    it can be. One that is there already is kept.
    """
    if target.exists():
        yield
        return
    over = threading.Event()
    with ThreadPoolExecutor(1, "sound-writer") as executor:
        written = executor.submit(write_sound, soundtrack, target, frames, over.is_set)
        try:
            yield
        except BaseException:
            over.set()
            raise
        written.result()


def join(
    fragments: Sequence[Path],
    sound: Path,
    target: Path,
    *,
    frames: int,
    metadata: Mapping[str, str],
) -> None:
    """Fragments, in order, and what `write_sound` made as one mp4 of `frames` frames.

    Frame k is shown at exactly k / 25 s. Pictures and sound are copied. The file is decoded from
    end to end before it gets its name.

    Raises:
        EncodingFailed: ffmpeg failed, or the result has another number of frames.
        StorageFull: the disk has no room.
    """
    pictures = [*ffmpeg.allowing("concat,mov"), "-f", "concat", "-safe", "0", "-i", "pipe:0"]
    heard = [*ffmpeg.allowing("mov"), "-i", f"file:{sound.absolute()}"]
    tracks = ["-map", "0:v:0", "-map", "1:a:0", "-c:a", "copy"]
    exact_times = f"setts=ts=N*{_TIMESCALE // FPS}:duration={_TIMESCALE // FPS}"
    copied = ["-c:v", "copy", "-bsf:v", exact_times, "-video_track_timescale", str(_TIMESCALE)]
    tags = [part for name, text in metadata.items() for part in ("-metadata", f"{name}={text}")]
    mp4 = [*_NO_TAGS, *tags, "-movflags", "+faststart", "-f", "mp4"]
    with _encoding(), publishing(target) as part:
        ffmpeg.feed(
            [*pictures, *heard, *tracks, *copied, *mp4, f"file:{part}"],
            [_playlist(fragments)],
        )
        _verify(part, frames)


def count_frames(path: Path) -> int:
    """How many frames of a video decode.

    Raises:
        EncodingFailed: it does not decode.
    """
    with _encoding():
        return ffmpeg.count_frames([*ffmpeg.opening(path), "-map", "0:V:0"])


def _playlist(fragments: Sequence[Path]) -> bytes:
    names = (str(path.absolute()).replace("'", r"'\''") for path in fragments)
    lines = ["ffconcat version 1.0", *(f"file 'file:{name}'" for name in names), ""]
    return os.fsencode("\n".join(lines))


def _verify(path: Path, frames: int) -> None:
    # Any error of the decoder counts, and a missing track is one.
    both = ["-xerror", *ffmpeg.opening(path), "-map", "0:V:0", "-map", "0:a:0"]
    decoded = ffmpeg.count_frames(both)
    if decoded != frames:
        raise EncodingFailed(f"The video has {decoded} frames instead of {frames}.")


@contextmanager
def _encoding() -> Iterator[None]:
    try:
        yield
    except ffmpeg.FFmpegFailed as failed:
        raise EncodingFailed("The video could not be encoded.") from failed
