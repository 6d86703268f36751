"""How far an output may be from its golden value, and why.

In float32 the engine computes what the original computes, in another order: errors are rounding,
and the limits are a few times what they add up to. In bfloat16 only whole predictions have a
meaningful limit; it is relative, and about three times what bfloat16 with the float32 islands of
the original costs. Where no bfloat16 limit is stated, the output is "float32 only".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits of one kind of output."""

    max_abs: float | None = None
    mean_abs: float | None = None
    relative: float | None = None  # largest error over the largest golden value
    bfloat16: float | None = None  # relative L2 error when the network runs in bfloat16


EXACT = Tolerance(max_abs=0.0)

TOLERANCES: Mapping[str, tuple[tuple[str, Tolerance], ...]] = {
    "dit_single": (
        (r"velocity_.*", Tolerance(max_abs=5e-5, bfloat16=1.5e-2)),
        (r"mid_.*", Tolerance(max_abs=5e-5)),
    ),
    "dit_multi": (
        (r"velocity_.*", Tolerance(max_abs=1e-4, bfloat16=5e-2)),
        (r"mid_.*x_ref_attn_map", Tolerance(max_abs=1e-6)),
        (r"mid_.*rope1d_q_pos", Tolerance(max_abs=1e-3)),
        (r"mid_.*", Tolerance(max_abs=1e-4)),
    ),
    "audio_windowing": ((r".*", EXACT),),
    "wav2vec": (
        (r"loaded_16k", Tolerance(max_abs=2e-3)),  # depends on the resampler
        (r".*loudness_normalised", Tolerance(relative=1e-4)),
        (r"input_values", Tolerance(max_abs=1e-5)),
        (r".*", Tolerance(max_abs=1e-4)),
    ),
    "vae": (
        (r"encode_.*", Tolerance(max_abs=1e-4)),
        (r"decode_.*", Tolerance(max_abs=2e-4)),
    ),
    "t5": ((r"bucket.*|text_cleaning", EXACT), (r".*", Tolerance(max_abs=2e-5))),
    "clip": ((r".*", Tolerance(max_abs=2e-5, bfloat16=1e-2)),),  # float16 beside a bfloat16 model
    "lora": (
        (r"fp32\..*", Tolerance(max_abs=1e-6)),
        (r"bf16\..*", Tolerance(max_abs=1.0)),  # in units of the last place, see the case
        (r".*", EXACT),
    ),
    "schedule": ((r"timesteps.*", Tolerance(max_abs=1e-3)), (r".*", Tolerance(relative=1e-5))),
    "color": ((r".*degenerate", EXACT), (r".*", Tolerance(max_abs=2e-4))),
    "buckets": (
        (r"img.*", Tolerance(max_abs=1.0)),  # levels of 255, with another bilinear filter
        (r".*", EXACT),
    ),
    "pipeline_single": (
        (r".*\.frames", Tolerance(max_abs=1e-3, mean_abs=5e-5)),
        (r".*\.frames_from_vae", Tolerance(max_abs=1e-3)),
        (r".*\.ref_target_masks|.*\.size", EXACT),
        (r".*\.timesteps", Tolerance(max_abs=1e-3)),
        (r".*", Tolerance(max_abs=5e-4)),
    ),
    "teacache": ((r".*accumulated|relative_l1.*", Tolerance(max_abs=1e-4)), (r".*", EXACT)),
    "manifests": ((r".*", EXACT),),
}


def tolerance_of(kind: str, output: str) -> Tolerance:
    """The first matching row of the table.

    Raises:
        KeyError: the table has no row for this output.
    """
    for pattern, tolerance in TOLERANCES[kind]:
        if re.fullmatch(pattern, output):
            return tolerance
    raise KeyError(f"{kind}.{output}")
