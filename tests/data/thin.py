"""Writes the thinned golden set beside this file from a full one; see README.md.

    python tests/data/thin.py GOLDEN_DIR [TARGET_DIR]

Of every case it keeps the weights whole and, of inputs and outputs, the tensors named below; of
`case.json` it drops what speaks of the rest. Nothing is computed: every number is the original's.
A thinned set goes through unchanged.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

# Case -> pattern of the inputs and of the outputs to keep. `vae` and `dit_multi` are left out for
# their size: the runs of `pipeline_single` go through both networks in full.
ALL = r".*"
RUNS = "img_t1_a3|vid_t1_a3_cc02|two_bbox_t5_a4|apg_t5_a4|maxframes_cut"
KEPT: Mapping[str, tuple[str, str]] = {
    "dit_single": (ALL, r"velocity_.*|mid_(text_ctx|time_.*|audio_later.*|head_out|block1_out)"),
    "audio_windowing": (ALL, ALL),
    "wav2vec": (
        r"second_audio_16k",
        r"(second_)?loudness_normalised|loaded_16k|input_values|.*_features|embedding",
    ),
    "t5": (ALL, r"context\d|bucket_of_relative_position"),
    "clip": (r"image1_normalised", r".*1.*"),
    "lora": (
        ALL,
        r"bf16\..*|fp32\..*(bias|norm\w*\.weight|patch_embedding.weight|blocks.1.ffn.0.weight)",
    ),
    "schedule": (ALL, r"(?!.*_thr55_).*"),
    "color": (ALL, r"strength_1\.0"),
    "buckets": (r"(?!img_big).*", r"(?!img_big|msk).*"),
    "pipeline_single": (
        rf"(?!.*noise)\w+|({RUNS})\.noise\d+_randn",
        rf"({RUNS})\.(chunk\d\.final_latent|ref_target_masks|timesteps)"
        r"|maxframes_cut\.frames"
        r"|img_t1_a3\.chunk(0\..*latent.*|0\..*pred.*|1\.step0.*|2\.(y|clip_fea_sum4))",
    ),
    "teacache": (r"e0_s(40_shift7|8_shift2)", r".*s(40_shift7|8_shift2)(?!.*reference).*"),
}


def thin(golden: Path, target: Path) -> None:
    """Write the thinned set of the golden folder into `target`, replacing the cases there."""
    for case, (inputs, outputs) in KEPT.items():
        folder, result = golden / f"case_{case}", target / f"case_{case}"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True)
        info = json.loads((folder / "case.json").read_text("utf-8"))
        for role, name in info["files"].items():
            if role in ("weights", "wav"):
                shutil.copyfile(folder / name, result / name)
            else:
                _copy_tensors(folder / name, result / name, inputs if role == "inputs" else outputs)
        _write_json(result / "case.json", _without_the_rest(info))
    (target / "manifests").mkdir(exist_ok=True)
    for path in (golden / "manifests").iterdir():
        _write_json(target / "manifests" / path.name, json.loads(path.read_text("utf-8")))


def _copy_tensors(source: Path, target: Path, pattern: str) -> None:
    kept = {k: t for k, t in load_file(source).items() if re.fullmatch(pattern, k)}
    save_file(kept, target)
    target.chmod(0o644)


def _without_the_rest(info: dict[str, Any]) -> dict[str, Any]:
    info = {key: value for key, value in info.items() if not key.endswith("_table")}
    if info["case"] == "pipeline_single":
        info["runs"] = {name: run for name, run in info["runs"].items() if re.fullmatch(RUNS, name)}
        for run in info["runs"].values():
            run.pop("noise_order", None)
            run.pop("call_kinds_first_step", None)
    if info["case"] == "teacache":
        kept = KEPT["teacache"][0]
        info["runs"] = [r for r in info["runs"] if re.match(kept, f"e0_{r['key']}")]
    return info


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    here = Path(__file__).parent
    thin(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else here)
