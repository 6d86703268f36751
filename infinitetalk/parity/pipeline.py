"""The golden case of the whole window loop: every run of `pipeline_single`, from stored noise."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from infinitetalk.conditioning import (
    Conditioner,
    Heard,
    Picture,
    Scene,
    Texts,
    View,
    latent_size,
)
from infinitetalk.media.image import choose_bucket, cover_crop_mask, nearest
from infinitetalk.media.regions import latent_masks, region_masks
from infinitetalk.models.image_encoder import ImageEncoderConfig
from infinitetalk.models.transformer import InfiniteTalkTransformer
from infinitetalk.models.vae import VAEConfig
from infinitetalk.parity.case import Case, Check
from infinitetalk.parity.networks import make, transformer_config
from infinitetalk.parity.sampling import table_of
from infinitetalk.pipeline import WindowRenderer
from infinitetalk.progress import ProgressMeter
from infinitetalk.sampling.guidance import Branch
from infinitetalk.sampling.sampler import Guidance
from infinitetalk.sampling.schedule import timesteps
from infinitetalk.sampling.windows import ReferencePlan, plan_reference
from infinitetalk.spec import Apg, Box, GenerationSpec
from infinitetalk.speech import EmbeddedSpeech


def pipeline_case(case: Case) -> Iterator[Check]:
    """All runs the case stores; in float32 only, errors of bfloat16 grow from window to window."""
    networks = _Networks.of(case)
    for name, run in case.info["runs"].items():
        if not any(output.startswith(f"{name}.") for output in case.outputs):
            continue
        for check in _run_checks(case, networks, name, run):
            limit = check.limit if case.dtype == torch.float32 else None
            yield Check(check.output, check.error, limit)


class _Recorder(InfiniteTalkTransformer):
    """A transformer that keeps what enters and leaves every forward of the sampler."""

    def __init__(self, network: InfiniteTalkTransformer) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(network.__dict__)
        self.latents: list[Tensor] = []
        self.predictions: list[Tensor] = []

    def embed(self, latent: Tensor, condition: Tensor) -> Tensor:
        self.latents.append(latent[0])
        return super().embed(latent, condition)

    def unembed(self, tokens: Tensor, time: Tensor, latent: Any) -> Tensor:
        self.predictions.append(super().unembed(tokens, time, latent)[0])
        return self.predictions[-1][None]


@dataclass(slots=True)
class _Networks:
    transformer: InfiniteTalkTransformer
    vae: Any
    image_encoder: Any

    @classmethod
    def of(cls, case: Case) -> "_Networks":
        config = case.info["config"]
        prefixed = ("vae.", "clip.")
        own = {k: t for k, t in case.weights.items() if not k.startswith(prefixed)}
        dit = own or load_file(case.folder.parent / "case_dit_single" / "weights.safetensors")
        sizes = transformer_config(config["dit"], case.inputs["audio_person1"])
        info = config["vae"]
        vae_config = VAEConfig(
            dim=info["dim"],
            z_dim=info["z_dim"],
            dim_mult=tuple(info["dim_mult"]),
            num_res_blocks=info["num_res_blocks"],
            temporal_downsample=tuple(info["temporal_downsample"]),
        )
        clip = _part(case.weights, "clip.")
        width = clip["visual.cls_embedding"].shape[-1]
        layers = len({m[1] for k in clip if (m := re.match(r"visual\.transformer\.(\d+)\.", k))})
        image_config = ImageEncoderConfig(dim=width, layers=max(1, layers))
        return cls(
            make("transformer", sizes, dit, case, case.dtype),
            make("vae", vae_config, _part(case.weights, "vae."), case, torch.float32),
            make("image_encoder", image_config, clip, case, torch.float32),
        )


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class _Film:
    """A video in memory as a scene."""

    pixels: np.ndarray  # uint8 f h w 3
    is_still: bool = field(default=False)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[2])

    def frame(self, index: int) -> np.ndarray:
        return self.pixels[min(index, len(self.pixels) - 1)]


def _spec(run: dict[str, Any]) -> GenerationSpec:
    boxes = tuple(Box(*corners) for corners in (run["bbox"] or {}).values())
    extra = run["extra"]
    apg = Apg(norm_threshold=extra["apg_norm_threshold"]) if extra.get("use_apg") else None
    return GenerationSpec(
        preset="golden",
        resolution="golden",
        steps=run["sampling_steps"],
        shift=run["shift"],
        text_guidance=run["text_guide_scale"],
        audio_guidance=run["audio_guide_scale"],
        window=run["frame_num"],
        motion_frames=run["motion_frame"],
        color_strength=run["color_correction_strength"],
        boxes=boxes,
        apg=apg,
    )


def _run_checks(case: Case, networks: _Networks, name: str, run: dict[str, Any]) -> Iterator[Check]:
    spec = _spec(run)
    plan = plan_reference(
        run["audio_frames"], spec.window, spec.motion_frames, run["max_frames_num"]
    )
    scene = _scene(case, run)
    size = choose_bucket(scene.height, scene.width, table_of(case.info))
    recorder = _Recorder(networks.transformer)
    conditioner = _conditioner(case, networks, recorder, spec, scene, run["persons"], size)
    branches = Guidance(spec.text_guidance, spec.audio_guidance).branches
    frames = []
    renderer = WindowRenderer(
        recorder, networks.vae, conditioner, spec, noise=lambda k, _: _noise(case, name)[k]
    )
    progress = ProgressMeter(len(plan.windows), spec.steps, lambda _: None)
    for pixels in renderer.render(_heard(plan), None, progress, lambda: False):
        window = pixels.window
        frames.append(pixels.frames[:, window.first_new : window.last_new].cpu())
        chunk = f"{name}.chunk{window.index}"
        view, clip = conditioner.view(window.start), conditioner.pixels(window.start)
        features = networks.image_encoder(clip[None])
        outputs = _window_outputs(chunk, recorder, view, features, branches)
        yield from case.compare_present(outputs)
        yield from case.compare_present(
            (
                (f"{chunk}.final_latent", pixels.latent[0]),
                (f"{chunk}.frames_from_vae", pixels.frames),
            )
        )
        if f"{chunk}.motion_latent" in case.outputs:
            golden = case.outputs[f"{chunk}.motion_latent"]
            start = recorder.latents[0][:, : golden.shape[1]]
            yield from case.compare(f"{chunk}.motion_latent", start, golden)
        recorder.latents.clear()
        recorder.predictions.clear()
    yield from case.compare_present([(f"{name}.frames", torch.cat(frames, 1))])
    yield from case.compare_present(_inputs(name, spec, scene, run["persons"], size))


def _window_outputs(
    chunk: str, recorder: _Recorder, view: View, clip: Tensor, branches: Sequence[Branch]
) -> Iterator[tuple[str, Tensor]]:
    count = len(branches)
    for index, prediction in enumerate(recorder.predictions):
        step, branch = divmod(index, count)
        yield f"{chunk}.step{step}.pred_{branches[branch]}", prediction
        if branch == 0:
            yield f"{chunk}.step{step}.latent_in", recorder.latents[index]
    yield f"{chunk}.y", view.latent
    yield f"{chunk}.clip_fea_sum4", clip[..., :4]


def _inputs(
    name: str, spec: GenerationSpec, scene: Scene, persons: int, size: tuple[int, int]
) -> Iterator[tuple[str, Tensor]]:
    masks = region_masks(scene.height, scene.width, spec.boxes, persons)
    _, height, width = latent_size(spec.window, size)
    latent = (
        cover_crop_mask(masks, size) if persons == 1 else latent_masks(masks, size, (height, width))
    )
    yield f"{name}.ref_target_masks", torch.tensor(nearest(latent, (height, width)))
    yield f"{name}.timesteps", timesteps(spec.steps, spec.shift)[:-1]


def _conditioner(
    case: Case,
    networks: _Networks,
    transformer: InfiniteTalkTransformer,
    spec: GenerationSpec,
    scene: Scene,
    persons: int,
    size: tuple[int, int],
) -> Conditioner:
    contexts = [case.inputs[key][None].to(case.device) for key in ("context", "context_null")]
    voices = [
        EmbeddedSpeech(case.inputs[f"audio_person{n + 1}"].to(case.device)) for n in range(persons)
    ]
    return Conditioner(
        transformer,
        networks.vae,
        networks.image_encoder,
        spec,
        scene,
        Texts(*contexts),
        voices,
        size,
    )


def _scene(case: Case, run: dict[str, Any]) -> Scene:
    if run["condition"] == "video":
        return _Film(case.inputs["video"].numpy())
    return Picture(case.inputs["image"].numpy())


def _noise(case: Case, name: str) -> list[Tensor]:
    """The draws that start a window; the others have no effect on the result."""
    pattern = rf"{re.escape(name)}\.noise(\d+)_randn"
    draws = {int(m[1]): key for key in case.inputs if (m := re.fullmatch(pattern, key))}
    return [case.inputs[draws[number]][None] for number in sorted(draws)]


def _heard(plan: ReferencePlan) -> Iterator[Heard]:
    for window, rows in zip(plan.windows, plan.rows, strict=True):
        yield Heard(window, rows)
