"""What a job takes of a GPU and costs: windows of forwards and what is around them, then the bill.

    window = steps * branches * forward + VAE decode + VAE encode of the motion frames
             + colours and copy to the host
    job    = windows * window + VAE encode of the picture + encoders
    bill   = (cold start + jobs * job + idle) * (GPU + cores + memory)

Writing the last window, joining the fragments and uploading are not in it, seconds a job, nor are
the CPU containers of the service.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from benchmarks.hardware import Container, Gpu
from benchmarks.measured import (
    BASIS,
    COLOR_MATCH,
    ENCODERS,
    FORWARDS,
    TO_HOST,
    VAE_TODAY,
    WEIGHTS_GIB,
    WINDOW_GIB,
    Arithmetic,
    Attention,
    Code,
    Vae,
)
from benchmarks.roofline import Span, Way, exactly, gpu_called, predict_forward, tokens
from infinitetalk.config import Settings
from infinitetalk.jobs.pricing import price_per_second
from infinitetalk.spec import FPS, Preset


@dataclass(frozen=True, slots=True)
class Usage:
    """How a container is used between its start and its end; all of it is an assumption."""

    video_s: float = 60.0  # of a job
    jobs: int = 10  # one after another
    cold_start_s: float = 120.0  # from the call to the first step; `accept` measures it
    idle_s: float = 120.0  # that it is kept after its last job


@dataclass(frozen=True, slots=True)
class JobCost:
    """One preset run in one way on one GPU."""

    gpu: Gpu
    preset: Preset
    way: Way
    forward_s: Span
    is_measured: bool  # the forward
    window_s: Span
    job_s: Span
    video_s: float
    dollars: Span  # of a video minute, while it renders
    billed: Span  # of a video minute, with the container's start and its waiting

    @property
    def gpu_s_per_video_s(self) -> Span:
        return self.job_s * (1 / self.video_s)


def cost_of(
    gpu: Gpu, preset: Preset, resolution: str, way: Way, usage: Usage, container: Container
) -> JobCost:
    """What a job of this length takes and costs."""
    forward, is_measured = forward_seconds(gpu, resolution, way)
    window = window_of(forward, gpu, preset, resolution)
    around = (VAE_TODAY.encode + ENCODERS) * _scale(gpu, resolution)
    job = window * windows(preset, usage.video_s) + exactly(around)
    price = price_per_second(gpu.cuda_name, Settings()) + container.price_per_second
    container_s = job * usage.jobs + exactly(usage.cold_start_s + usage.idle_s)
    return JobCost(
        gpu=gpu,
        preset=preset,
        way=way,
        forward_s=forward,
        is_measured=is_measured,
        window_s=window,
        job_s=job,
        video_s=usage.video_s,
        dollars=job * (price * 60 / usage.video_s),
        billed=container_s * (price * 60 / (usage.video_s * usage.jobs)),
    )


def window_of(
    forward: Span, gpu: Gpu, preset: Preset, resolution: str, vae: Vae = VAE_TODAY
) -> Span:
    """Seconds of a window whose forwards take so long."""
    around = window_overhead_s(preset, vae) * _scale(gpu, resolution)
    return forward * forwards(preset) + exactly(around)


def forward_seconds(gpu: Gpu, resolution: str, way: Way) -> tuple[Span, bool]:
    """Seconds of a forward, and whether they were measured."""
    wanted = (gpu.name, resolution, way)
    for found in FORWARDS:
        measured = Way(found.arithmetic, found.attention, found.code)
        if (found.gpu, found.resolution, measured) == wanted:
            return exactly(found.seconds), True
    return predict_forward(gpu, resolution, way), False


def forwards(preset: Preset) -> int:
    """Forwards of a window: a guidance of 1 needs no branch of its own."""
    guided = (preset.text_guidance != 1) + (preset.audio_guidance != 1)
    return preset.steps * (1 + guided)


def windows(preset: Preset, video_s: float) -> int:
    """Windows of a video: each begins with the last frames of the one before."""
    frames = round(video_s * FPS)
    stride = preset.window - preset.motion_frames
    return 1 + max(0, -(-(frames - preset.window) // stride))


def window_overhead_s(preset: Preset, vae: Vae) -> float:
    """Seconds around the transformer in a window, on the H200 at 480p."""
    motion = vae.encode * preset.motion_frames / preset.window
    return vae.decode + motion + COLOR_MATCH + TO_HOST


def ways(gpu: Gpu, resolution: str, codes: tuple[Code, ...]) -> Iterator[Way]:
    """Every way that the GPU has the arithmetic and the memory for."""
    for code, arithmetic, attention in product(codes, Arithmetic, Attention):
        needs_fp8 = arithmetic is Arithmetic.FP8 or attention is Attention.EIGHT_BIT
        # 8-bit attention is not built into what runs operation after operation.
        is_built = attention is Attention.LIBRARY or code is Code.COMPILED
        is_possible = is_built and not (needs_fp8 and gpu.fp8 is None)
        if is_possible and fits(gpu, arithmetic, resolution):
            yield Way(arithmetic, attention, code)


def fits(gpu: Gpu, arithmetic: Arithmetic, resolution: str) -> bool:
    """Whether weights and a window fit, with the text encoder on the CPU if need be."""
    return min(WEIGHTS_GIB[arithmetic]) + WINDOW_GIB[resolution] <= gpu.memory_gib


def _scale(gpu: Gpu, resolution: str) -> float:
    """How much longer than on the H200 at 480p the convolutions of the VAE take.

    They are counted as bound by arithmetic. It is the same for tf32, which torch uses in float32,
    and for float16: a GPU does twice as much of it.
    """
    return gpu_called(BASIS).tf32 / gpu.tf32 * tokens(resolution) / tokens("480p")
