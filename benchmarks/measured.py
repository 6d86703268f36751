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


TODAY = Code.EAGER
"""What this version does."""

BASIS = "H200"
"""The GPU of every measurement that shares are taken from."""

DESIGN = "2026-11-22, a prototype"
RESULTS = "2026-11-22, benchmarks/RESULTS.md"


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

# Self-attention of 40 heads of 128 over 33,600 tokens, 10^12 operations a second (2026-11-22)
CUDNN_ATTENTION = 568.0
FLASH_ATTENTION_2 = 361.0
EIGHT_BIT_ATTENTION = 622.0  # a first kernel of ours in Triton: int8 scores, fp8 values

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
    Forward(BASIS, Arithmetic.BF16, Code.EAGER, 4.31, RESULTS),
    Forward(BASIS, Arithmetic.BF16, Code.COMPILED, 3.33, DESIGN),
    Forward(BASIS, Arithmetic.FP8, Code.COMPILED, 2.72, DESIGN),
)

CALIBRATION = FORWARDS[1]
"""The forward that the model is fitted to: it says how far kernels fall behind inside a whole."""

# The original's code, eager, with flash-attention 2 (2026-11-22)
REFERENCE_FORWARD = 5.94

# Around the transformer, H200 at 480p, float32 (2026-11-22)
VAE_ENCODE_81 = 1.75
VAE_DECODE_81 = 2.85
COLOR_MATCH = 0.05  # not measured: what it is meant to take on a GPU

# RESULTS.md, "The full-size model in fp8 on a smaller card": two windows of 4 forwards, eager
SMALL_CARD_WINDOW = 19.9
SMALL_CARD_FORWARDS = 4
SMALL_CARD_WINDOWS = 2

# GiB on the GPU: weights with and without the text encoder, which may go to the CPU
# (RESULTS.md for fp8; bf16 from the sizes of the files), and the plan for a window.
WEIGHTS_GIB: Mapping[Arithmetic, tuple[float, float]] = {
    Arithmetic.FP8: (31.0, 19.9),
    Arithmetic.BF16: (47.5, 36.9),
}
WINDOW_GIB: Mapping[str, float] = {"480p": 12.8, "720p": 25.3}
