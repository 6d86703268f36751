"""Golden cases around the networks: schedule, guidance, cache, windows, colour, sizes, LoRA."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infinitetalk.conditioning import latent_size, with_mask
from infinitetalk.errors import AudioTooShort
from infinitetalk.media.image import choose_bucket, cover_crop, cover_crop_mask
from infinitetalk.parity.case import Case, Check
from infinitetalk.sampling.color import match_color
from infinitetalk.sampling.guidance import Branch, ProjectedGuidance, combine
from infinitetalk.sampling.schedule import add_noise, euler_step, timesteps
from infinitetalk.sampling.step_cache import (
    COEFFICIENTS_480,
    COEFFICIENTS_720,
    plan_steps,
    relative_change,
)
from infinitetalk.sampling.windows import plan_reference
from infinitetalk.spec import BUCKETS_480, BUCKETS_720, Apg, BucketTable
from infinitetalk.weights.lora import PREFIX, merge, read_lora, total

# The steps, shift and scales that the case's update, guidance and noise were made with.
_STEPS, _SHIFT, _ENTRY = 8, 7.0, 2
_TEXT_SCALE, _AUDIO_SCALE, _AUDIO_SCALE_ALONE = 5.0, 4.0, 3.0


def schedule_case(case: Case) -> Iterator[Check]:
    """Timestep tables, guidance with two and three forwards, Euler update, APG, noising."""
    case.dtype = torch.float32
    for output in case.outputs:
        if match := re.fullmatch(r"timesteps_steps(\d+)_shift(\d+)", output):
            yield from case.compare(output, timesteps(int(match[1]), float(match[2])))
    inputs = {key: tensor.to(case.device) for key, tensor in case.inputs.items()}
    three, two = _predictions(inputs, 0)
    guided3 = combine(three, _TEXT_SCALE, _AUDIO_SCALE)
    guided2 = combine(two, 1.0, _AUDIO_SCALE_ALONE)
    t, t_next = timesteps(_STEPS, _SHIFT)[_ENTRY : _ENTRY + 2].tolist()
    latent = inputs["latent"]
    yield from case.compare_present(
        (
            ("cfg3_text5_audio4", guided3),
            ("cfg2_audio3", guided2),
            ("euler_cfg3", euler_step(latent, guided3, t, t_next)),
            ("euler_cfg2", euler_step(latent, guided2, t, t_next)),
            ("add_noise_t", add_noise(latent, inputs["cond"], t)),
        )
    )
    thresholds = {m[1] for o in case.outputs if (m := re.match(r"apg\d_thr(\d+)_", o))}
    for threshold in sorted(thresholds):
        yield from case.compare_present(_projected(inputs, threshold))


def _predictions(
    inputs: dict[str, Tensor], step: int
) -> tuple[dict[Branch, Tensor], dict[Branch, Tensor]]:
    """Branch predictions of step `step` of the case's APG runs, for three and two forwards."""
    cond = inputs["cond"] * (1 + 0.5 * step)
    drop_text = inputs["drop_text"] * (1 + 0.5 * step) + 0.1 * step
    uncond, drop_audio = inputs["uncond"] + 0.2 * step, inputs["drop_audio"] - 0.1 * step
    three = {Branch.COND: cond, Branch.DROP_TEXT: drop_text, Branch.UNCOND: uncond}
    return three, {Branch.COND: cond, Branch.DROP_AUDIO: drop_audio}


def _projected(inputs: dict[str, Tensor], threshold: str) -> Iterator[tuple[str, Tensor]]:
    apg3 = ProjectedGuidance(Apg(norm_threshold=float(threshold)))
    apg2 = ProjectedGuidance(Apg(norm_threshold=float(threshold)))
    for step in range(3):
        three, two = _predictions(inputs, step)
        guided3 = apg3.combine(three, _TEXT_SCALE, _AUDIO_SCALE)
        guided2 = apg2.combine(two, 1.0, _AUDIO_SCALE_ALONE)
        yield f"apg3_thr{threshold}_step{step}", guided3
        yield f"apg2_thr{threshold}_step{step}", guided2


def step_cache_case(case: Case) -> Iterator[Check]:
    """Every decision of every run, and the accumulator after it."""
    case.dtype = torch.float32
    for run in case.info["runs"]:
        key = run["key"]
        if f"{key}.correct_calc" not in case.outputs:
            continue
        coefficients = COEFFICIENTS_720 if run["size"].endswith("720") else COEFFICIENTS_480
        schedule = f"s{run['steps']}_shift{run['shift']}"
        modulations = list(case.inputs[f"e0_{schedule}"])
        changes = [relative_change(b, a) for a, b in pairwise(modulations)]
        yield from case.compare_present([(f"relative_l1_{schedule}", torch.tensor(changes))])
        plan = plan_steps(modulations, run["threshold"], coefficients)
        yield from case.compare(f"{key}.correct_calc", torch.tensor(plan.is_computed))
        yield from case.compare_present(
            [(f"{key}.accumulated", torch.tensor(plan.accumulated, dtype=torch.float64))]
        )


def windows_case(case: Case) -> Iterator[Check]:
    """The rows of speech every window hears, and the number of frames; refusals included."""
    case.dtype = torch.float32
    for combo in case.info["combos"]:
        name = f"combo{combo['id']}"
        sizes = (combo["frame_num"], combo["motion_frame"], combo["max_frames_num"])
        try:
            plan = plan_reference(combo["audio_frames"], *sizes)
        except AudioTooShort:
            yield case.agree(f"{name}_refused", "error" in combo)
            continue
        rows = [
            torch.stack([row + 1000 * person for person, row in enumerate(persons)])
            for persons in plan.rows
        ]
        yield from case.compare_present([(f"{name}_windows", torch.stack(rows))])
        yield case.agree(f"{name}_frames", plan.frames == combo.get("output_frames"))
        yield case.agree(f"{name}_chunks", len(plan.windows) == combo.get("chunks"))
        starts = [window.start for window in plan.windows]
        yield case.agree(f"{name}_picks", starts == combo["cond_frame_picks"][: len(starts)])


def color_case(case: Case) -> Iterator[Check]:
    """Every strength; a flat frame's statistics are rounding noise: only finite and in range."""
    case.dtype = torch.float32
    clip, reference = (case.inputs[key].to(case.device) for key in ("clip", "reference"))
    is_flat = clip[0].std((-2, -1)).amin(0) < 1e-5  # f
    for output, golden in case.outputs.items():
        strength = float(output.removeprefix("strength_"))
        matched = match_color(clip[0], reference[0, :, 0], strength)
        varied = ~is_flat
        yield from case.compare(output, matched[:, varied], golden[0][:, varied.cpu()])
        flat = matched[:, is_flat]
        in_range = bool(torch.isfinite(flat).all() and (flat.abs() <= 1 + 1e-6).all())
        yield case.agree(f"{output}_degenerate", in_range)


def buckets_case(case: Case) -> Iterator[Check]:
    """Bucket choice, crop of images and masks, condition mask."""
    case.dtype = torch.float32
    ours = {"480": BUCKETS_480, "720": BUCKETS_720}
    for label, table in case.info["tables"].items():
        theirs = {key: tuple(size[0]) for key, size in table.items()}
        yield case.agree(f"table_{label}", list(theirs.items()) == list(ours[label].items()))
    for choice in case.info["choices"]:
        h, w = choice["h"], choice["w"]
        for label, bucket_table in ours.items():
            target = tuple(choice[label]["target_hw"])
            chosen = choose_bucket(h, w, bucket_table)
            yield case.agree(f"choice_{h}x{w}_{label}", chosen == target)
    for output in case.outputs:
        if match := re.fullmatch(r"(img\w+|mask\d+)_out_(\d+)x(\d+)", output):
            source = case.inputs[match[1]].numpy()
            yield from case.compare(output, _cropped(source, (int(match[2]), int(match[3]))))
        elif match := re.fullmatch(r"msk_F(\d+)_(\d+)x(\d+)", output):
            size = (8 * int(match[2]), 8 * int(match[3]))
            latent = torch.ones(1, 16, *latent_size(int(match[1]), size))
            yield from case.compare(output, with_mask(latent)[:, :4])


def _cropped(source: np.ndarray, size: tuple[int, int]) -> Tensor:
    if source.shape[0] == 3:  # masks come first, pictures last
        return torch.from_numpy(cover_crop_mask(source, size))
    return torch.tensor(cover_crop(source, size)).permute(2, 0, 1)[None, :, None]


def lora_case(case: Case) -> Iterator[Check]:
    """Merged weights in float32, and in bfloat16 within one unit in the last place."""
    case.dtype = torch.float32
    mark = "lora_file::"
    lora = {k.removeprefix(mark): t for k, t in case.inputs.items() if k.startswith(mark)}
    deltas, report = read_lora(lora, {key: tuple(t.shape) for key, t in case.weights.items()})
    yield case.agree("changed_keys", sorted(deltas) == sorted(case.info["changed_keys"]))
    yield case.agree("report", set(lora) == {*report.used, *report.ignored})
    yield case.agree("prefix", all(key.startswith(PREFIX) for key in report.used))
    scale = case.info["scale"]
    for key, delta in deltas.items():
        weight = case.weights[key]
        merged = merge(weight.float(), delta, scale)
        yield from case.compare_present([(f"fp32.{key}", merged)])
        output = f"bf16.{key}"
        if output in case.outputs:
            golden = case.outputs[output].float()
            added = scale * total(delta)
            unit = _unit_in_last_place(weight.float(), added, golden)
            difference = (merge(weight, delta, scale).float() - golden) / unit
            yield from case.compare(output, difference, torch.zeros_like(golden))


def _unit_in_last_place(*values: Tensor) -> Tensor:
    """Of bfloat16 at the largest of the values: rounding happens at each of them."""
    largest = torch.stack([value.abs() for value in values]).amax(0).clamp(min=1e-30)
    return torch.exp2(torch.floor(torch.log2(largest)) - 7)


def table_of(case_info: dict[str, Any]) -> BucketTable:
    """A case's own bucket table."""
    return {key: tuple(size[0]) for key, size in case_info["config"]["buckets"].items()}
