"""Every kind of picture, video and voice becomes a video as a player expects it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from infinitetalk.demo.portrait import draw_portrait
from infinitetalk.runner import Result, Runner
from infinitetalk.spec import Box, SpeakingOrder, specify
from tests.end_to_end.reading import check_video, photo_with_rotation, read_video

Render = Callable[..., Result]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def scenes(media: Path, portrait: Path, convert: Make) -> dict[str, Path]:
    face = draw_portrait(160)
    transparent = face.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(face.size))
    transparent.save(media / "alpha.png")
    face.save(media / "face.webp")
    shift = "rotate=0.2*sin(2*PI*t):fillcolor=gray"
    clips = {}
    for name, rate in (("30", "30"), ("23976", "24000/1001")):
        options = ("-vf", f"loop=loop=-1:size=1,setpts=N/({rate})/TB,{shift}", "-r", rate)
        clip = ("-t", "1.2", "-pix_fmt", "yuv420p", "-c:v", "libx264")
        clips[f"mp4_{name}"] = convert(
            media / "portrait.png", media / f"{name}.mp4", *options, *clip
        )
    return {
        "jpeg_rotated": photo_with_rotation(media / "photo.jpg"),
        "png_alpha": media / "alpha.png",
        "webp": media / "face.webp",
        **clips,
    }


@pytest.mark.parametrize("scene", ["jpeg_rotated", "png_alpha", "webp", "mp4_30", "mp4_23976"])
def test_every_kind_of_scene_is_taken(
    scene: str, scenes: dict[str, Path], tiny: Runner, render: Render, make_speech: Make
) -> None:
    speech, spec = make_speech(0.4), specify("tiny")
    check_video(render(tiny, spec, scenes[scene], [speech]).path, speech, spec)


def test_a_moving_scene_is_rendered_in_several_windows(
    scenes: dict[str, Path], tiny: Runner, render: Render, make_speech: Make
) -> None:
    speech, spec = make_speech(2.2), specify("tiny")
    result = render(tiny, spec, scenes["mp4_30"], [speech])
    assert result.windows == 2
    check_video(result.path, speech, spec)


def test_the_demo_renders(portrait: Path, demo: Runner, render: Render, make_speech: Make) -> None:
    speech, spec = make_speech(0.4), specify("demo", steps=1, audio_guidance=1.0)
    check_video(render(demo, spec, portrait, [speech]).path, speech, spec)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", ()),
        ("mp3", ("-b:a", "192k")),
        ("m4a", ("-c:a", "aac", "-b:a", "192k")),
        ("ogg", ("-c:a", "libvorbis", "-q:a", "6")),
        ("opus", ("-c:a", "libopus", "-b:a", "192k")),
        ("flac", ()),
        ("mp4", ("-c:a", "aac", "-b:a", "192k")),
    ],
)
def test_every_kind_of_voice_stays_in_step(
    suffix: str,
    options: tuple[str, ...],
    portrait: Path,
    tiny: Runner,
    render: Render,
    make_speech: Make,
    convert: Make,
    media: Path,
) -> None:
    rate = 48000 if suffix == "opus" else 44100
    original = make_speech(3.0, rate=rate)
    voice = convert(original, media / f"voice.{suffix}", *options)
    spec = specify("tiny")
    check_video(render(tiny, spec, portrait, [voice]).path, original, spec)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 96000])
def test_the_sound_keeps_its_rate(
    rate: int, portrait: Path, tiny: Runner, render: Render, make_speech: Make
) -> None:
    speech = make_speech(1.5, rate=rate, channels=1)
    spec = specify("tiny")
    check_video(render(tiny, spec, portrait, [speech]).path, speech, spec)


@pytest.mark.parametrize("seconds", [0.2, 0.4, 1.32, 1.36, 2.44, 2.48])
def test_the_video_is_as_long_as_the_voice(
    seconds: float, portrait: Path, tiny: Runner, render: Render, make_speech: Make
) -> None:
    """Around the borders of one and two windows too: 33 frames are 1.32 s, 61 are 2.44 s."""
    result = render(tiny, specify("tiny"), portrait, [make_speech(seconds)])
    assert result.frames == round(seconds * 25)
    assert len(read_video(result.path).frames) == result.frames


def test_max_seconds_cuts_picture_and_sound(
    portrait: Path, tiny: Runner, render: Render, make_speech: Make
) -> None:
    result = render(tiny, specify("tiny", max_seconds=1.0), portrait, [make_speech(3.0)])
    video = read_video(result.path)
    assert len(video.frames) == 25
    assert abs(len(video.sound) / video.sample_rate - 1.0) < 0.05


BOXES = (Box(10, 5, 150, 75), Box(20, 85, 140, 155))


@pytest.mark.parametrize("boxes", [(), BOXES], ids=["no boxes", "boxes"])
@pytest.mark.parametrize("order", list(SpeakingOrder))
def test_two_speakers_of_different_length(
    boxes: tuple[Box, ...],
    order: SpeakingOrder,
    portrait: Path,
    tiny: Runner,
    render: Render,
    make_speech: Make,
) -> None:
    voices = [make_speech(2.0, seed=1), make_speech(1.2, seed=2)]
    spec = specify("tiny", order=order, boxes=boxes, audio_guidance=2.0)
    result = render(tiny, spec, portrait, voices)
    expected = 2.0 if order is SpeakingOrder.TOGETHER else 3.2
    assert result.frames == round(expected * 25)
    assert len(read_video(result.path).frames) == result.frames


def test_swapping_the_boxes_changes_the_picture(
    portrait: Path, tiny: Runner, render: Render, make_speech: Make
) -> None:
    voices = [make_speech(1.0, seed=1), make_speech(1.0, seed=2)]
    pictures = [
        read_video(render(tiny, specify("tiny", boxes=boxes), portrait, voices, name).path).frames
        for boxes, name in ((BOXES, "a"), (BOXES[::-1], "b"))
    ]
    assert (pictures[0] != pictures[1]).any()
