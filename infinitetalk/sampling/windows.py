"""Windows: how a long video is cut into the pieces the model sees, and which speech each one hears.

Every window has the same length; its first `motion_frames` frames repeat the end of the one before.

Two ways to plan. `WindowPlan` is ours: the speech is padded with silence to the end of the last
window. `plan_reference`, the exact mode of the golden runs, reproduces the original, which runs
past the end of the speech by playing its last frames backwards, refuses speech not longer than a
window, and lets person 1 decide where a duet ends.

All lengths are video frames at 25 a second; speech has one embedding row per frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.errors import AudioTooShort

AUDIO_REACH = 2  # rows of speech before and after a frame that it hears


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of the video."""

    index: int
    start: int  # first frame, counted in the whole video
    length: int
    first_new: int  # frames before this repeat the previous window
    last_new: int  # frames from here on are past the end of the video

    @property
    def new_frames(self) -> int:
        return self.last_new - self.first_new


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """All windows of a video: as many as it takes to show its frames."""

    frames: int  # of the finished video
    length: int
    motion_frames: int

    @property
    def count(self) -> int:
        stride = self.length - self.motion_frames
        return 1 + max(0, -(-(self.frames - self.length) // stride))

    @property
    def covered_frames(self) -> int:
        """Frames up to the end of the last window; so much speech (or silence) is heard."""
        return self.length + (self.count - 1) * (self.length - self.motion_frames)

    def __iter__(self) -> Iterator[Window]:
        return (self.window(index) for index in range(self.count))

    def window(self, index: int) -> Window:
        start = index * (self.length - self.motion_frames)
        first_new = self.motion_frames if index else 0
        return Window(index, start, self.length, first_new, min(self.length, self.frames - start))


def heard_rows(start: int, length: int, available: int) -> Tensor:
    """Rows of speech that each frame hears: length x 5, clamped to the rows there are."""
    frames = torch.arange(start, start + length)
    reach = torch.arange(-AUDIO_REACH, AUDIO_REACH + 1)
    return (frames[:, None] + reach).clamp(0, available - 1)


@dataclass(frozen=True, slots=True)
class ReferencePlan:
    """The original's plan: windows, and for each the rows every person's speech is heard from."""

    windows: tuple[Window, ...]
    rows: tuple[tuple[Tensor, ...], ...]  # window, person: length x 5 original row numbers
    frames: int


def plan_reference(
    speech_frames: Sequence[int], length: int, motion_frames: int, max_frames: int
) -> ReferencePlan:
    """Plan as the original does, its handling of the end of the speech included.

    Args:
        speech_frames: embedding rows of each person.

    Raises:
        AudioTooShort: speech is not longer than one window.
    """
    if min(speech_frames) <= length:
        raise AudioTooShort(f"The original needs speech longer than {length} frames.")
    timelines = [torch.arange(n) for n in speech_frames]
    start, is_last, starts, rows = 0, max_frames <= length, [], []
    while True:
        starts.append(start)
        heard = (line[heard_rows(start, length, len(line))] for line in timelines)
        rows.append(tuple(heard))
        if is_last:
            break
        start += length - motion_frames
        if start + length >= min(max_frames, len(timelines[0])):
            is_last = True
            timelines = [_play_backwards(line, start + length) for line in timelines]
    covered = starts[-1] + length
    frames = min(max_frames, covered)
    if max_frames > length:
        frames = min(frames, speech_frames[-1])
    return ReferencePlan(_windows(starts, length, motion_frames, frames), tuple(rows), frames)


def _play_backwards(timeline: Tensor, end: int) -> Tensor:
    """Extend a timeline past its end by its own last rows, reversed (its last row comes twice)."""
    if end < len(timeline):
        return timeline
    missing = end - len(timeline) + 3
    return torch.cat((timeline, timeline[-missing:].flip(0)))


def _windows(
    starts: Sequence[int], length: int, motion_frames: int, frames: int
) -> tuple[Window, ...]:
    return tuple(
        Window(i, s, length, motion_frames if i else 0, max(0, min(length, frames - s)))
        for i, s in enumerate(starts)
    )
