import pytest
import torch
from torch import Tensor

from infinitetalk.sampling.frame_guard import are_intact

PICTURES = torch.rand(3, 5, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def with_frame(index: int, frame: Tensor | float) -> Tensor:
    frames = PICTURES.clone()
    frames[:, index] = frame
    return frames


def with_value(value: float) -> Tensor:
    frames = PICTURES.clone()
    frames[1, 3, 4, 5] = value
    return frames


def one_pixel_apart() -> Tensor:
    frame = torch.full((3, 8, 8), -1.0)
    frame[2, 7, 7] = -0.99
    return frame


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (PICTURES, True),
        (with_frame(2, one_pixel_apart()), True),
        (PICTURES[:, :1].expand(3, 5, 8, 8), True),
        (torch.zeros(3, 5, 8, 8), False),
        (with_frame(0, 0.5), False),
        (with_frame(2, -1.0), False),
        (with_frame(4, torch.tensor([0.1, -0.2, 0.3])[:, None, None]), False),
        (with_value(torch.nan), False),
        (with_value(torch.inf), False),
    ],
    ids=[
        "pictures",
        "a dark frame with one pixel less dark",
        "a still picture",
        "all grey",
        "one grey frame at the start",
        "one black frame in the middle",
        "one coloured frame at the end",
        "a value that is no number",
        "a value that is infinite",
    ],
)
def test_what_is_taken_for_a_picture(frames: Tensor, expected: bool) -> None:
    assert are_intact(frames) == expected
