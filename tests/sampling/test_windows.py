from itertools import pairwise

import pytest
import torch

from infinitetalk.errors import AudioTooShort
from infinitetalk.sampling.windows import WindowPlan, heard_rows, plan_reference

SHAPES = [(5, 1), (13, 5), (13, 12), (33, 5), (33, 8), (81, 9), (81, 25), (81, 1)]


@pytest.mark.parametrize(("length", "motion_frames"), SHAPES)
def test_every_frame_is_new_in_exactly_one_window(length: int, motion_frames: int) -> None:
    for frames in range(1, 4 * length):
        plan = WindowPlan(frames, length, motion_frames)
        shown = [
            frame for w in plan for frame in range(w.start + w.first_new, w.start + w.last_new)
        ]
        assert shown == list(range(frames))


@pytest.mark.parametrize(("length", "motion_frames"), SHAPES)
def test_no_window_is_empty_and_the_last_one_ends_the_video(
    length: int, motion_frames: int
) -> None:
    for frames in range(1, 4 * length):
        plan = WindowPlan(frames, length, motion_frames)
        assert all(window.new_frames > 0 for window in plan)
        assert plan.covered_frames == plan.window(plan.count - 1).start + length >= frames
        assert len(list(plan)) == plan.count


@pytest.mark.parametrize(("length", "motion_frames"), SHAPES)
def test_a_window_begins_with_the_end_of_the_one_before(length: int, motion_frames: int) -> None:
    plan = WindowPlan(5 * length, length, motion_frames)
    assert plan.window(0).first_new == 0
    for before, after in pairwise(plan):
        assert after.start == before.start + length - motion_frames
        assert after.first_new == motion_frames
        assert after.index == before.index + 1


def test_windows_are_whole_until_the_last() -> None:
    windows = list(WindowPlan(100, 33, 5))
    assert [w.last_new for w in windows] == [33, 33, 33, 16]


def test_a_frame_hears_two_rows_before_and_after_it() -> None:
    rows = heard_rows(10, 3, 100)
    assert rows.tolist() == [[8, 9, 10, 11, 12], [9, 10, 11, 12, 13], [10, 11, 12, 13, 14]]


def test_rows_are_clamped_to_the_speech_there_is() -> None:
    assert heard_rows(0, 2, 3).tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2]]
    assert heard_rows(8, 2, 5).tolist() == [[4] * 5, [4] * 5]
    assert heard_rows(0, 33, 1).unique().tolist() == [0]


def test_our_plan_never_asks_for_rows_beyond_what_it_covers() -> None:
    plan = WindowPlan(70, 33, 5)
    rows = torch.cat([heard_rows(w.start, w.length, plan.covered_frames) for w in plan])
    assert (rows.min().item(), rows.max().item()) == (0, plan.covered_frames - 1)


@pytest.mark.parametrize("speech", [(12,), (13,), (40, 13)])
def test_the_original_refuses_speech_no_longer_than_a_window(speech: tuple[int, ...]) -> None:
    with pytest.raises(AudioTooShort):
        plan_reference(speech, 13, 5, 1000)


def test_the_original_plays_the_end_of_the_speech_backwards() -> None:
    plan = plan_reference((26,), 13, 5, 1000)
    middle = plan.rows[-1][0][:, 2]
    assert middle.tolist() == [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 25, 24, 23]
    assert plan.frames == 26


def test_both_plans_agree_on_the_windows_of_long_speech() -> None:
    ours, original = WindowPlan(100, 33, 5), plan_reference((100,), 33, 5, 1000)
    assert list(ours)[:3] == list(original.windows)[:3]
