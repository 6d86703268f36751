"""The playlist of a job that is being watched (HTTP Live Streaming, RFC 8216).

An EVENT playlist: it grows by a segment with every finished window, and ends with the job. Its
addresses are relative to its own.
"""

import math
from collections.abc import Sequence

from infinitetalk.spec import FPS, GenerationSpec

CONTENT_TYPE = "application/vnd.apple.mpegurl"


def playlist(lengths: Sequence[int], spec: GenerationSpec, *, is_complete: bool) -> str:
    """The text of a playlist.

    Args:
        lengths: of the windows that can be watched, in frames.
        is_complete: no window will follow.
    """
    longest = math.ceil(spec.window / FPS)  # must never change, so that of any window
    head = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{longest}",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MAP:URI="segments/init.mp4"',
    ]
    entries = [
        f"#EXTINF:{frames / FPS:.2f},\nsegments/{number:05d}.m4s"
        for number, frames in enumerate(lengths)
    ]
    return "\n".join([*head, *entries, *(["#EXT-X-ENDLIST"] if is_complete else []), ""])


def first_frame(window: int, spec: GenerationSpec) -> int:
    """Where the frames that a window adds to the video begin."""
    return spec.window + (window - 1) * (spec.window - spec.motion_frames) if window else 0


def lengths(windows: int, frames: int, spec: GenerationSpec) -> list[int]:
    """How many frames each of the first windows adds to a video of so many frames."""
    starts = [first_frame(window, spec) for window in range(windows + 1)]
    ends = [min(start, frames) for start in starts[1:]]
    return [end - start for start, end in zip(starts, ends, strict=False)]
