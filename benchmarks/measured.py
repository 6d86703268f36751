"""What was measured, for `roofline` and `project`: kernels, forwards, the rest of a window.

The one place to put a new figure: replace the old one, with its date and source. A forward that is
measured on a GPU is used there in place of a prediction, and marked so. Seconds unless a name says
else. Where nothing else is said a forward is one of the 14B model at 480p, 640x640, 81 frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Arithmetic(StrEnum):
    """Of the linear layers."""

    BF16 = "bf16"
    FP8 = "fp8"


class Attention(StrEnum):
    """How self-attention is computed."""

    LIBRARY = "16-bit"  # the best library kernel of the GPU
    EIGHT_BIT = "8-bit"


class Code(StrEnum):
    """How the transformer is run."""

    EAGER = "eager"  # operation after operation
    COMPILED = "compiled"  # operations between two products fused


TODAY = Code.COMPILED
"""What this version does where there is a compiler."""

BASIS = "H200"
"""The GPU of every measurement that shares are taken from."""

RESULTS = "2026-11-23, benchmarks/RESULTS.md"


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """One linear layer at 33,600 tokens, milliseconds, activations' quantisation included."""

    square: float  # 5120 x 5120
    up: float  # 5120 x 13824
    down: float  # 13824 x 5120


# RESULTS.md, "fp8: one linear layer"
LAYERS: Mapping[tuple[Arithmetic, Code], LayerTimes] = {
    (Arithmetic.BF16, Code.EAGER): LayerTimes(2.24, 6.96, 6.79),
    (Arithmetic.BF16, Code.COMPILED): LayerTimes(2.48, 7.06, 6.04),
    (Arithmetic.FP8, Code.EAGER): LayerTimes(2.28, 4.68, 6.43),
    (Arithmetic.FP8, Code.COMPILED): LayerTimes(1.53, 3.67, 3.70),
}

# RESULTS.md, "Self-attention": 40 heads of 128 over 33,600 tokens, 10^12 operations a second
CUDNN_ATTENTION = 568.0
FLASH_ATTENTION_2 = 359.0
EIGHT_BIT_ATTENTION = 877.0  # ours for an H100 or H200, its rounding included
EIGHT_BIT_ATTENTION_ANY = 557.0  # ours for any other GPU with fp8, run on the H200

# Not measured: what of its memory's datasheet bandwidth a fused elementwise operation reaches.
BANDWIDTH_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Forward:
    """One measured forward of the transformer."""

    gpu: str
    arithmetic: Arithmetic
    code: Code
    seconds: float
    source: str
    attention: Attention = Attention.LIBRARY
    resolution: str = "480p"


FORWARDS: tuple[Forward, ...] = (
    Forward(BASIS, Arithmetic.BF16, Code.EAGER, 4.027, RESULTS),
    Forward(BASIS, Arithmetic.BF16, Code.COMPILED, 3.287, RESULTS),
    Forward(BASIS, Arithmetic.FP8, Code.EAGER, 3.733, RESULTS),
    Forward(BASIS, Arithmetic.FP8, Code.COMPILED, 2.636, RESULTS),
    Forward(BASIS, Arithmetic.FP8, Code.COMPILED, 2.105, RESULTS, Attention.EIGHT_BIT),
    Forward(BASIS, Arithmetic.FP8, Code.COMPILED, 10.585, RESULTS, resolution="720p"),
    Forward(BASIS, Arithmetic.FP8, Code.COMPILED, 7.643, RESULTS, Attention.EIGHT_BIT, "720p"),
)

CALIBRATION = FORWARDS[1]
"""The forward that the model is fitted to: it says how far kernels fall behind inside a whole."""

# The original's code, eager, with flash-attention 2 (2026-11-22)
REFERENCE_FORWARD = 5.94


@dataclass(frozen=True, slots=True)
class Vae:
    """The VAE in one arithmetic, 81 frames at 480p on the H200."""

    encode: float
    decode: float
    source: str


VAE_FLOAT32 = Vae(1.74, 2.83, RESULTS)
VAE_FLOAT16 = Vae(0.61, 0.96, "2026-11-23, a trial before it was built in")
VAE_TODAY = VAE_FLOAT16
"""What this version has on a GPU."""

# RESULTS.md, "Parts of a window": the rest of what is around the transformer, H200 at 480p
COLOR_MATCH = 0.015
TO_HOST = 0.082  # rounding to uint8, and the copy
ENCODERS = 0.082  # prompt, 10 s of speech and picture with their keys, once a job


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window of a job, of those that are neither the first nor the last."""

    gpu: str
    preset: str
    arithmetic: Arithmetic
    code: Code
    seconds: float
    source: str
    attention: Attention = Attention.LIBRARY
    resolution: str = "480p"
    vae: Vae = VAE_TODAY


# RESULTS.md, "A window of each preset": half of its steps run, put together without what only a
# first window encodes
WINDOWS: tuple[Window, ...] = (
    Window(
        *(BASIS, "fast", Arithmetic.FP8, Code.COMPILED, 11.39, RESULTS),
        attention=Attention.EIGHT_BIT,
        vae=VAE_FLOAT32,
    ),
)

# GiB on the GPU: weights with and without the text encoder, which may go to the CPU
# (RESULTS.md for fp8; bf16 from the sizes of the files), and the plan for a window.
WEIGHTS_GIB: Mapping[Arithmetic, tuple[float, float]] = {
    Arithmetic.FP8: (31.0, 19.9),
    Arithmetic.BF16: (47.5, 36.9),
}
WINDOW_GIB: Mapping[str, float] = {"480p": 10.1, "720p": 18.9}
