"""The window loop with the tiny model: what repeats, what differs, what stops it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.conditioning import Conditioner, Heard, Picture, Texts
from infinitetalk.errors import (
    AttentionUnavailable,
    Canceled,
    CompilerUnavailable,
    GenerationDiverged,
)
from infinitetalk.media.audio import SpeechFile
from infinitetalk.models.attention import Attention, sdpa
from infinitetalk.pipeline import (
    InfiniteTalkPipeline,
    Rendered,
    WindowPixels,
    WindowRenderer,
    seeded_noise,
    to_uint8,
    video_frames,
)
from infinitetalk.progress import Progress, ProgressMeter, Stage
from infinitetalk.sampling.windows import WindowPlan, heard_rows
from infinitetalk.spec import GenerationSpec, SpeakingOrder, specify
from infinitetalk.speech import EmbeddedSpeech
from infinitetalk.weights.load import Model

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 64, 3), dtype=np.uint8)
FRAMES = 27  # of 13, 8 and 6 new ones
Voices = Callable[..., list[SpeechFile]]


def wish(**options: Any) -> GenerationSpec:
    """The tiny preset with windows shorter than its own."""
    return specify("tiny", **{"window": 13, "motion_frames": 5, **options})


@pytest.fixture
def voices(make_track: Callable[..., Path]) -> Iterator[Voices]:
    opened: list[SpeechFile] = []

    def make(count: int = 1, seed: int = 0) -> list[SpeechFile]:
        tracks = [SpeechFile(make_track(FRAMES / 25, seed + i)) for i in range(count)]
        opened.extend(tracks)
        return tracks

    yield make
    for voice in opened:
        voice.close()


def render(
    model: Model, voices: list[SpeechFile], spec: GenerationSpec | None = None, **options: Any
) -> list[Rendered]:
    spec = spec or wish()
    plan = WindowPlan(FRAMES, spec.window, spec.motion_frames)
    given = {"on_progress": lambda _: None, "canceling": lambda: False, **options}
    pipeline = InfiniteTalkPipeline(model)
    return list(pipeline.render(spec, Picture(PICTURE), voices, plan, **given))


def video(windows: Sequence[Rendered]) -> np.ndarray:
    return np.concatenate([window.frames for window in windows])


@contextmanager
def counted_forwards(model: Model) -> Iterator[list[int]]:
    """One entry for every time the blocks are run."""
    forwards: list[int] = []
    blocks = model.transformer.blocks
    hook = blocks[0].register_forward_hook(lambda *_: forwards.append(1))
    yield forwards
    hook.remove()


def test_the_windows_make_up_the_video(tiny_model: Model, voices: Voices) -> None:
    windows = render(tiny_model, voices())
    assert [len(window.frames) for window in windows] == [13, 8, 6]
    assert video(windows).shape == (FRAMES, 48, 48, 3)
    assert video(windows).dtype == np.uint8
    assert [window.motion.shape for window in windows] == [(3, 5, 48, 48)] * 3


def test_the_same_job_gives_the_same_frames(tiny_model: Model, voices: Voices) -> None:
    first, second = (video(render(tiny_model, voices())) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "change",
    [{"seed": 43}, {"prompt": "Another one."}, {"steps": 3}, {"color_strength": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_another_wish_gives_other_frames(
    tiny_model: Model, voices: Voices, change: dict[str, Any]
) -> None:
    first = video(render(tiny_model, voices()))
    assert not np.array_equal(first, video(render(tiny_model, voices(), wish(**change))))


def test_another_voice_gives_other_frames(tiny_model: Model, voices: Voices) -> None:
    first, second = (video(render(tiny_model, voices(seed=seed))) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("text_guidance", [1.0, 5.0])
def test_the_negative_prompt_counts_only_where_text_is_guided(
    tiny_model: Model, voices: Voices, text_guidance: float
) -> None:
    first, second = (
        video(
            render(
                tiny_model,
                voices(),
                wish(text_guidance=text_guidance, negative_prompt=negative),
            )
        )
        for negative in ("blurred", "overexposed and grey")
    )
    assert np.array_equal(first, second) == (text_guidance == 1.0)


@pytest.mark.parametrize(
    ("persons", "options"),
    [
        (1, {}),
        (2, {"order": SpeakingOrder.TOGETHER}),
        (1, {"text_guidance": 5.0, "audio_guidance": 4.0}),
    ],
    ids=["plain", "duet", "guided"],
)
@pytest.mark.parametrize("first", [1, 2])
def test_a_job_resumed_at_any_window_continues_bit_for_bit(
    tiny_model: Model, voices: Voices, first: int, persons: int, options: dict[str, Any]
) -> None:
    spec = wish(**options)
    whole = render(tiny_model, voices(persons), spec)
    motion = whole[first - 1].motion.clone()
    rest = render(tiny_model, voices(persons), spec, first_window=first, motion=motion)
    assert [window.window for window in rest] == [window.window for window in whole[first:]]
    for resumed, wanted in zip(rest, whole[first:], strict=True):
        assert np.array_equal(resumed.frames, wanted.frames)
        assert torch.equal(resumed.motion, wanted.motion)


def test_a_window_continues_from_the_frames_it_is_given(tiny_model: Model, voices: Voices) -> None:
    whole = render(tiny_model, voices())
    other = -whole[0].motion
    rest = render(tiny_model, voices(), first_window=1, motion=other)
    assert not np.array_equal(rest[0].frames, whole[1].frames)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_canceled_job_runs_no_step_more(tiny_model: Model, voices: Voices, steps: int) -> None:
    """`canceling` is asked after every step; at its first yes the job ends."""
    with counted_forwards(tiny_model) as forwards, pytest.raises(Canceled):
        render(tiny_model, voices(), canceling=lambda: len(forwards) >= steps)
    assert len(forwards) == steps


def test_a_cancel_while_a_window_is_decoded_ends_there(tiny_model: Model, voices: Voices) -> None:
    seen: list[Progress] = []
    asked: list[Stage] = []

    def canceling() -> bool:
        asked.append(seen[-1].stage)
        return asked.count(Stage.DECODING) > 1

    with pytest.raises(Canceled):
        render(tiny_model, voices(), canceling=canceling, on_progress=seen.append)
    assert asked.count(Stage.DECODING) == 2
    assert {progress.window for progress in seen if progress.window} == {1}


def test_windows_finished_before_the_cancel_were_handed_out(
    tiny_model: Model, voices: Voices
) -> None:
    spec, handed = wish(), []
    windows = InfiniteTalkPipeline(tiny_model).render(
        spec,
        Picture(PICTURE),
        voices(),
        WindowPlan(FRAMES, 13, 5),
        on_progress=lambda _: None,
        canceling=lambda: bool(handed),
    )
    with pytest.raises(Canceled):
        for window in windows:
            handed.append(window.window.index)
    assert handed == [0]


@pytest.mark.parametrize(
    ("text_guidance", "audio_guidance", "forwards"),
    [(1.0, 1.0, 1), (1.0, 2.0, 2), (5.0, 1.0, 2), (5.0, 4.0, 3)],
)
def test_a_step_runs_the_blocks_once_for_every_branch_and_no_more(
    tiny_model: Model, voices: Voices, text_guidance: float, audio_guidance: float, forwards: int
) -> None:
    spec = wish(text_guidance=text_guidance, audio_guidance=audio_guidance)
    with counted_forwards(tiny_model) as counted:
        windows = render(tiny_model, voices(), spec)
    assert len(counted) == forwards * spec.steps * len(windows)


@pytest.mark.parametrize(
    ("text_guidance", "interval", "forwards"),
    [(1.0, (2, 3), 5), (5.0, (2, 2), 7)],
)
def test_steps_outside_the_guidance_interval_take_a_forward_less(
    tiny_model: Model,
    voices: Voices,
    text_guidance: float,
    interval: tuple[int, int],
    forwards: int,
) -> None:
    spec = wish(
        steps=3,
        text_guidance=text_guidance,
        audio_guidance=2.0,
        audio_guidance_interval=interval,
    )
    seen: list[Progress] = []
    with counted_forwards(tiny_model) as counted:
        windows = render(tiny_model, voices(), spec, on_progress=seen.append)
    assert len(counted) == forwards * len(windows)
    assert [p.step for p in seen if p.step and p.stage is Stage.DENOISING] == [1, 2, 3] * 3
    assert seen[-1].skipped_steps == 0  # the step cache left out nothing


@pytest.fixture
def steady_model(load_tiny: Callable[[], Model]) -> Model:
    """A tiny model whose features change so little from step to step that some are left out."""
    model = load_tiny()
    projection = model.transformer.time_projection[1]
    projection.weight.mul_(0.02)
    projection.bias.fill_(0.5)
    return model


@pytest.mark.parametrize(
    ("audio_guidance", "interval", "forwards"),
    [(1.0, None, 8), (2.0, None, 16), (2.0, (6, 7), 10)],
)
def test_forwards_left_out_by_the_step_cache_are_counted_in_the_progress(
    steady_model: Model,
    voices: Voices,
    audio_guidance: float,
    interval: tuple[int, int] | None,
    forwards: int,
) -> None:
    spec = wish(
        steps=8,
        audio_guidance=audio_guidance,
        audio_guidance_interval=interval,
        step_cache_threshold=0.2,
    )
    seen: list[Progress] = []
    with counted_forwards(steady_model) as counted:
        render(steady_model, voices(), spec, on_progress=seen.append)
    counts = [p.skipped_steps for p in seen if p.step]
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert len(counted) + counts[-1] == 3 * forwards


def test_a_job_with_step_cache_is_resumed_bit_for_bit_and_counts_on(
    steady_model: Model, voices: Voices
) -> None:
    spec = wish(steps=8, audio_guidance=2.0, step_cache_threshold=0.2)
    seen: list[Progress] = []
    whole = render(steady_model, voices(), spec, on_progress=seen.append)
    total = seen[-1].skipped_steps
    rest = render(
        steady_model,
        voices(),
        spec,
        first_window=1,
        motion=whole[0].motion,
        on_progress=seen.append,
    )
    assert np.array_equal(video(rest), video(whole[1:]))
    assert seen[-1].skipped_steps == total


def test_progress_runs_through_every_window_and_step_to_the_end(
    tiny_model: Model, voices: Voices
) -> None:
    seen: list[Progress] = []
    render(tiny_model, voices(), on_progress=seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    steps = [(p.window, p.step) for p in seen if p.stage is Stage.DENOISING and p.step]
    assert steps == [(window, step) for window in (1, 2, 3) for step in (1, 2)]


def test_nothing_is_drawn_from_the_global_generator(tiny_model: Model, voices: Voices) -> None:
    state = torch.get_rng_state()
    first = video(render(tiny_model, voices()))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert np.array_equal(video(render(tiny_model, voices())), first)


def test_the_consumer_of_the_windows_keeps_its_own_grad_mode(
    tiny_model: Model, voices: Voices
) -> None:
    windows = InfiniteTalkPipeline(tiny_model).render(
        wish(),
        Picture(PICTURE),
        voices(),
        WindowPlan(FRAMES, 13, 5),
        on_progress=lambda _: None,
        canceling=lambda: False,
    )
    for _ in windows:
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What is compiled in a test is not there in the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("count", [1, 2], ids=["one voice", "two voices"])
def test_a_compiled_pipeline_compiles_nothing_in_a_job(
    load_tiny: Callable[[], Model], voices: Voices, count: int
) -> None:
    """Over windows, steps and branches, at whatever size the picture has."""
    compiled: list[int] = []

    def compiler(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        compiled.append(1)
        return graph.forward

    spec, model = wish(audio_guidance=2.0), load_tiny()
    expected = video(render(model, voices(count), spec))
    InfiniteTalkPipeline(model).compile(spec, compiler)
    assert len(compiled) == model.manifest.speakers == 2
    found = video(render(model, voices(count), spec))
    assert np.abs(found.astype(int) - expected).mean() < 1  # GELU is rounded differently
    wide = Picture(PICTURE[:40])
    plan = WindowPlan(FRAMES, spec.window, spec.motion_frames)
    options: dict[str, Any] = {"on_progress": lambda _: None, "canceling": lambda: False}
    *_, last = InfiniteTalkPipeline(model).render(spec, wide, voices(count), plan, **options)
    assert last.frames.shape[1:3] != expected.shape[1:3]
    assert len(compiled) == 2


def no_compiler(*_: object) -> Callable[..., Any]:
    raise RuntimeError("no compiler")


@pytest.mark.usefixtures("forgetful")
def test_where_there_is_no_compiler_the_pipeline_runs_as_before(
    load_tiny: Callable[[], Model], voices: Voices
) -> None:
    model = load_tiny()
    expected = video(render(model, voices()))
    with pytest.raises(CompilerUnavailable):
        InfiniteTalkPipeline(model).compile(wish(), no_compiler)
    assert np.array_equal(video(render(model, voices())), expected)


@pytest.mark.usefixtures("forgetful")
def test_without_kernels_for_the_vae_the_pipeline_runs_as_before(
    load_tiny: Callable[[], Model], voices: Voices
) -> None:
    """In float16, as on a GPU; on a CPU they cannot run."""
    model = load_tiny()
    model.vae.half()
    expected = video(render(model, voices()))
    with pytest.raises(CompilerUnavailable):
        InfiniteTalkPipeline(model).compile(wish(), lambda graph, _: graph.forward)
    assert np.array_equal(video(render(model, voices())), expected)


def test_broken_weights_are_a_typed_error(load_tiny: Callable[[], Model], voices: Voices) -> None:
    model = load_tiny()
    model.transformer.head.head.bias.fill_(float("nan"))
    with pytest.raises(GenerationDiverged):
        render(model, voices())


def test_a_picture_of_one_colour_is_taken_for_a_broken_one(
    load_tiny: Callable[[], Model], voices: Voices
) -> None:
    model = load_tiny()
    for parameter in model.vae.net.decoder.conv_out.parameters():
        parameter.zero_()
    with pytest.raises(GenerationDiverged):
        render(model, voices())


def test_an_attention_that_cannot_run_is_refused_at_once(tiny_model: Model) -> None:
    with pytest.raises(AttentionUnavailable, match="flash"):
        InfiniteTalkPipeline(tiny_model, "flash")


def direct(model: Model, attention: Attention, seen: list[Progress]) -> list[WindowPixels]:
    """All windows of a job by the renderer itself, with an attention of the test's own."""
    spec, plan = wish(), WindowPlan(FRAMES, 13, 5)
    generator = torch.Generator().manual_seed(2)
    speech = EmbeddedSpeech(torch.randn(plan.covered_frames, 2, 32, generator=generator))
    text = model.text_encoder(model.tokenizer(spec.prompt))
    conditioner = Conditioner(
        model.transformer,
        model.vae,
        model.image_encoder,
        spec,
        Picture(PICTURE),
        Texts(text, None),
        [speech],
        (48, 48),
    )
    renderer = WindowRenderer(
        model.transformer, model.vae, conditioner, spec, noise=seeded_noise(1), attention=attention
    )
    heard = (Heard(w, (heard_rows(w.start, w.length, plan.covered_frames),)) for w in plan)
    meter = ProgressMeter(plan.count, spec.steps, seen.append)
    return list(renderer.render(heard, None, meter, lambda: False))


def not_a_number(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.full_like(q, float("nan"))


def test_a_window_that_an_attention_breaks_is_rendered_again_with_sdpa(tiny_model: Model) -> None:
    seen: list[Progress] = []
    rescued = direct(tiny_model, not_a_number, seen)
    for window, wanted in zip(rescued, direct(tiny_model, sdpa, []), strict=True):
        assert torch.equal(window.frames, wanted.frames)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1].fallback_windows == 3


def test_an_attention_that_breaks_one_window_is_used_for_the_others(tiny_model: Model) -> None:
    calls: list[bool] = []
    seen: list[Progress] = []

    def breaks_the_second_window(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(4 <= len(calls) < 8)  # two steps of two blocks a window
        return not_a_number(q, k, v) if calls[-1] else sdpa(q, k, v)

    rescued = direct(tiny_model, breaks_the_second_window, seen)
    assert len(calls) == 3 * 4
    assert [p.fallback_windows for p in seen if p.stage is Stage.DECODING] == [0, 0, 1, 1]
    for window, wanted in zip(rescued, direct(tiny_model, sdpa, []), strict=True):
        assert torch.equal(window.frames, wanted.frames)


def test_noise_is_its_own_for_every_seed_window_and_use() -> None:
    shape = (1, 16, 3, 4, 4)
    draws = [
        seeded_noise(seed, use)(window, shape)
        for seed in (0, 1, 2**63 - 1)
        for use in ("latent", "other")
        for window in (0, 1, 11)
    ]
    for i, one in enumerate(draws):
        assert abs(one.mean()) < 0.15
        assert 0.9 < one.std() < 1.1
        assert not any(torch.equal(one, other) for other in draws[i + 1 :])


def test_noise_of_a_window_is_the_same_in_every_order() -> None:
    forward, backward = seeded_noise(5), seeded_noise(5)
    drawn = [forward(window, (4, 4)) for window in (0, 1, 2)]
    again = [backward(window, (4, 4)) for window in (2, 1, 0)]
    assert all(torch.equal(a, b) for a, b in zip(drawn, reversed(again), strict=True))


@pytest.mark.parametrize(
    ("speech_s", "max_seconds", "frames"),
    [
        (0.2, None, 5),
        (1.0, None, 25),
        (1.019, None, 25),
        (1.021, None, 26),
        (10.0, 4.0, 100),
        (3.0, 4.0, 75),
        (0.001, None, 1),
    ],
)
def test_the_video_is_as_long_as_the_speech_or_as_its_limit(
    speech_s: float, max_seconds: float | None, frames: int
) -> None:
    assert video_frames(specify("tiny", max_seconds=max_seconds), speech_s) == frames


def test_levels_are_cut_off_not_rounded_and_clipped() -> None:
    values = torch.tensor([-1.2, -1.0, 0.0, 0.9999, 1.0, 1.5])
    frames = values.view(1, 6, 1, 1).expand(3, 6, 2, 4)
    levels = to_uint8(frames)
    assert levels.shape == (6, 2, 4, 3)
    assert levels[:, 0, 0, 0].tolist() == [0, 0, 127, 254, 255, 255]
