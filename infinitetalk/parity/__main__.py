"""Command line of the parity check; see the package."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from infinitetalk.parity.case import Case, Check
from infinitetalk.parity.manifests import manifest_checks
from infinitetalk.parity.networks import (
    image_case,
    speech_case,
    text_case,
    transformer_case,
    vae_case,
)
from infinitetalk.parity.pipeline import pipeline_case
from infinitetalk.parity.sampling import (
    buckets_case,
    color_case,
    lora_case,
    schedule_case,
    step_cache_case,
    windows_case,
)

KINDS: Mapping[str, Callable[[Case], Iterator[Check]]] = {
    "dit_single": transformer_case,
    "dit_multi": transformer_case,
    "audio_windowing": windows_case,
    "wav2vec": speech_case,
    "vae": vae_case,
    "t5": text_case,
    "clip": image_case,
    "lora": lora_case,
    "schedule": schedule_case,
    "color": color_case,
    "buckets": buckets_case,
    "pipeline_single": pipeline_case,
    "teacache": step_cache_case,
}


def run_case(folder: Path, device: torch.device, dtype: torch.dtype) -> list[Check]:
    """All checks of one case folder, or of the folder `manifests`.

    Raises:
        KeyError: the case is of a kind nobody knows here.
    """
    if folder.name == "manifests":
        return list(manifest_checks(folder))
    case = Case(folder, device, dtype)
    if case.kind not in KINDS:
        raise KeyError(case.kind)
    with torch.inference_mode():
        return list(KINDS[case.kind](case))


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; 0 when all pass, 1 when one fails or is unknown, 2 when there is none."""
    options = _parser().parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    folders = _folders(options.golden, options.case)
    if not folders:
        print(f"There is no golden case in {options.golden}.", file=sys.stderr)
        return 2
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    passed = [_report(folder, device, dtype) for folder in folders]
    print(f"{sum(passed)} of {len(passed)} cases passed ({options.dtype} on {options.device})")
    return 0 if all(passed) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infinitetalk.parity", description="Compare the engine with golden vectors."
    )
    parser.add_argument("golden", type=Path, help="folder with case_* folders and manifests")
    parser.add_argument("--case", help="run only this case, for example dit_single")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    return parser


def _folders(golden: Path, only: str | None) -> list[Path]:
    folders = sorted(golden.glob("case_*")) + sorted(golden.glob("manifests"))
    return [f for f in folders if only is None or f.name.removeprefix("case_") == only]


def _report(folder: Path, device: torch.device, dtype: torch.dtype) -> bool:
    """Run a case and print its line, or a line for everything that is wrong."""
    name = folder.name.removeprefix("case_")
    try:
        checks = run_case(folder, device, dtype)
    except KeyError as error:
        faults = [f"unknown case or output {error}"]
    except Exception as error:  # one broken case must not hide the others
        faults = [f"{type(error).__name__}: {error}"]
    else:
        faults = _faults(checks)
    for fault in faults:
        print(f"{name:<16} FAILED: {fault}")
    if not faults:
        print(f"{name:<16} {_summary(checks)}")
    return not faults


def _faults(checks: list[Check]) -> list[str]:
    if not checks:
        return ["it stores nothing to compare"]
    limits = {c: "" if c.limit is None else f" > {c.limit:.3g}" for c in checks}
    return [f"{c.output} is off by {c.error:.3g}{limits[c]}" for c in checks if not c.passed]


def _summary(checks: list[Check]) -> str:
    limited = [check for check in checks if check.limit is not None]
    if not limited:
        return "float32 only"
    worst = max(limited, key=lambda check: check.severity)
    free = len(checks) - len(limited)
    return (
        f"ok  {len(limited)} checks; closest to its limit: {worst.output} "
        f"{worst.error:.3g} <= {worst.limit:.3g}" + (f"; {free} float32 only" if free else "")
    )


if __name__ == "__main__":
    sys.exit(main())
