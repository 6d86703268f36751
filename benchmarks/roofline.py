"""How long a forward of the transformer takes on a GPU that nobody has measured.

    forward = slack * (linear / rate + self-attention / rate + cross-attention / rate)
              + elementwise traffic / bandwidth

Operations and bytes follow from the architecture. A rate is the share of the datasheet's that the
same kernel reached on an H200, times the other GPU's datasheet rate. Which share attention reaches
elsewhere is not known, so there it is a range: from that of a kernel not made for an H200, which is
flash-attention 2 or our 8-bit one for any GPU, to that of cuDNN, which is. `slack` is what one
measured forward takes beyond the sum.

It is a model for sizing and prices, not a promise: `python -m benchmarks.project --check` shows its
error. It knows nothing of clocks that fall under load, and so is likelier to be too fast.
"""

from dataclasses import dataclass

from benchmarks.hardware import GPUS, Gpu
from benchmarks.measured import (
    BANDWIDTH_SHARE,
    BASIS,
    CALIBRATION,
    CUDNN_ATTENTION,
    EIGHT_BIT_ATTENTION,
    EIGHT_BIT_ATTENTION_ANY,
    FLASH_ATTENTION_2,
    LAYERS,
    Arithmetic,
    Attention,
    Code,
)
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.spec import PRESETS, VAE_STRIDE_SPACE, VAE_STRIDE_TIME

IMAGE_TOKENS = 257  # of the image encoder: 16 x 16 patches and one for all of them
SQUARE_LAYERS = 8  # of a block, 5120 x 5120: self q k v o, text and image q o, audio q o
MODEL = TransformerConfig()
FULL = PRESETS["standard"]

# Elementwise work of a block, in readings or writings of one 16-bit value for every token and
# channel (a 32-bit one counts 2): counted in models/block.py. What is fused reads its input once
# and writes its output once; products and attention are not in it.
PASSES = {Code.EAGER: 216.0, Code.COMPILED: 40.0}
BYTES = 2


@dataclass(frozen=True, slots=True)
class Span:
    """A figure that is known to lie between two values."""

    low: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> "Span":
        return Span(self.low * factor, self.high * factor)


def exactly(value: float) -> Span:
    """A span of no width."""
    return Span(value, value)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the transformer."""

    arithmetic: Arithmetic
    attention: Attention
    code: Code


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward has to do: operations (10^12; a multiplication and an addition are two)."""

    linear: float
    self_attention: float
    cross_attention: float
    passes_bytes: float  # of one pass over every token and channel in all blocks, 10^12


def predict_forward(gpu: Gpu, resolution: str, way: Way) -> Span:
    """Seconds of a forward for the largest square of a resolution."""
    work = work_of(tokens(resolution))
    return _products(gpu, work, way) * slack() + exactly(_traffic(gpu, work, way.code))


def slack() -> float:
    """What the calibrating forward takes beyond the sum of its kernels, as a factor."""
    basis = gpu_called(BASIS)
    way = Way(CALIBRATION.arithmetic, CALIBRATION.attention, CALIBRATION.code)
    work = work_of(tokens(CALIBRATION.resolution))
    products = CALIBRATION.seconds - _traffic(basis, work, way.code)
    return products / _products(basis, work, way).low


def tokens(resolution: str) -> int:
    """Tokens of a window of the largest square."""
    height, width = FULL.buckets[resolution]["1.00"]
    patch = VAE_STRIDE_SPACE * MODEL.patch[1]
    return (height // patch) * (width // patch) * latent_frames(FULL.window)


def latent_frames(frames: int) -> int:
    """Frames of the latent of a video."""
    return 1 + (frames - 1) // VAE_STRIDE_TIME


def work_of(count: int) -> Work:
    """The work of a forward over so many tokens."""
    width, layers = MODEL.dim, MODEL.layers
    weights = SQUARE_LAYERS * width**2 + 2 * width * MODEL.ffn_dim
    looked_at = MODEL.text_tokens + IMAGE_TOKENS + MODEL.audio_tokens
    return Work(
        linear=2 * count * weights * layers / 1e12,
        self_attention=4 * count**2 * width * layers / 1e12,
        cross_attention=4 * count * looked_at * width * layers / 1e12,
        passes_bytes=count * width * layers * BYTES / 1e12,
    )


def linear_rate(arithmetic: Arithmetic, code: Code) -> float:
    """What the linear layers of a block reach together on the H200, 10^12 operations a second."""
    times = LAYERS[arithmetic, code]
    block = (SQUARE_LAYERS * times.square + times.up + times.down) / 1000
    return work_of(tokens("480p")).linear / MODEL.layers / block


def gpu_called(name: str) -> Gpu:
    """The GPU of a name in our list."""
    return next(gpu for gpu in GPUS if gpu.name == name)


def rate_in(gpu: Gpu, arithmetic: Arithmetic) -> float:
    """The datasheet's rate, 10^12 operations a second; the GPU must have this arithmetic."""
    rate = gpu.bf16 if arithmetic is Arithmetic.BF16 else gpu.fp8
    assert rate is not None, f"{gpu.name} has no {arithmetic}"
    return rate


def attention_rates(gpu: Gpu, attention: Attention) -> Span:
    """Slowest and fastest that self-attention may run, 10^12 operations a second."""
    basis = gpu_called(BASIS)
    best = CUDNN_ATTENTION / basis.bf16
    if attention is Attention.LIBRARY:
        worst = best if gpu.has_fast_attention else FLASH_ATTENTION_2 / basis.bf16
        return Span(worst, best) * gpu.bf16
    rate = rate_in(basis, Arithmetic.FP8)
    if gpu.has_fast_8_bit_attention:
        shares = exactly(EIGHT_BIT_ATTENTION / rate)
    else:
        shares = Span(EIGHT_BIT_ATTENTION_ANY / rate, best)
    return shares * rate_in(gpu, Arithmetic.FP8)


def _products(gpu: Gpu, work: Work, way: Way) -> Span:
    """Seconds in matrix products and attention, each at its own rate."""
    basis = gpu_called(BASIS)
    share = linear_rate(way.arithmetic, way.code) / rate_in(basis, way.arithmetic)
    linear = work.linear / (share * rate_in(gpu, way.arithmetic))
    attention = _at(attention_rates(gpu, way.attention), work.self_attention)
    cross = _at(attention_rates(gpu, Attention.LIBRARY), work.cross_attention)
    return exactly(linear) + attention + cross


def _at(rates: Span, operations: float) -> Span:
    return Span(operations / rates.high, operations / rates.low)


def _traffic(gpu: Gpu, work: Work, code: Code) -> float:
    """Seconds in which the memory is read and written by elementwise work."""
    return PASSES[code] * work.passes_bytes / (gpu.bandwidth * BANDWIDTH_SHARE)
