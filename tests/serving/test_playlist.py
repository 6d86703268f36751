"""The text that a player reads, and where each window begins in it."""

import pytest

from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.serving.playlist import first_frame, lengths, playlist
from infinitetalk.spec import specify


@pytest.mark.parametrize("preset", ["standard", "demo"])
@pytest.mark.parametrize("frames", [1, 33, 34, 81, 82, 153, 154, 1500])
def test_windows_are_where_the_engine_plans_them(preset: str, frames: int) -> None:
    spec = specify(preset)
    plan = list(WindowPlan(frames, spec.window, spec.motion_frames))
    assert lengths(len(plan), frames, spec) == [window.new_frames for window in plan]
    starts = [window.start + window.first_new for window in plan]
    assert [first_frame(number, spec) for number in range(len(plan))] == starts


def test_a_growing_playlist_keeps_what_it_said() -> None:
    spec = specify("tiny")
    said = [playlist(lengths(n, 75, spec), spec, is_complete=n == 3) for n in (1, 2, 3)]
    assert said[1].startswith(said[0])
    assert said[2].startswith(said[1])
    assert [text.endswith("#EXT-X-ENDLIST\n") for text in said] == [False, False, True]


def test_a_finished_playlist_holds_what_a_player_needs() -> None:
    spec = specify("tiny")
    assert playlist([33, 28, 14], spec, is_complete=True).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MAP:URI="segments/init.mp4"',
        "#EXTINF:1.32,",
        "segments/00000.m4s",
        "#EXTINF:1.12,",
        "segments/00001.m4s",
        "#EXTINF:0.56,",
        "segments/00002.m4s",
        "#EXT-X-ENDLIST",
    ]
