"""Golden cases of sizes nobody published, made by the engine itself.

They prove nothing about the original; they show that the parity check takes every size from the
case. Weights are random, rounded to bfloat16 as the golden ones are.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infinitetalk.conditioning import Conditioner, Heard, Picture, Texts
from infinitetalk.media.image import nearest
from infinitetalk.media.loudness import measure, normalise
from infinitetalk.models.attention import sdpa
from infinitetalk.models.audio_encoder import AudioEncoderConfig, reference_frames
from infinitetalk.models.image_encoder import ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoderConfig
from infinitetalk.models.transformer import (
    Conditioning,
    InfiniteTalkTransformer,
    TransformerConfig,
)
from infinitetalk.models.vae import LATENT_MEAN, LATENT_STD, VAEConfig
from infinitetalk.pipeline import WindowRenderer
from infinitetalk.progress import ProgressMeter
from infinitetalk.sampling.windows import plan_reference
from infinitetalk.spec import Apg, Box, GenerationSpec, specify
from infinitetalk.speech import EmbeddedSpeech
from infinitetalk.weights.convert import build, to_original

Tensors = dict[str, Tensor]


def write_case(
    folder: Path,
    kind: str,
    info: dict[str, Any],
    weights: Tensors,
    inputs: Tensors,
    outputs: Tensors,
) -> None:
    folder.mkdir(parents=True)
    files = dict(info.pop("files", {}))
    for role, tensors in (("weights", weights), ("inputs", inputs), ("outputs", outputs)):
        if tensors:
            files[role] = f"{role}.safetensors"
            save_file({k: t.clone().contiguous() for k, t in tensors.items()}, folder / files[role])
    (folder / "case.json").write_text(json.dumps({"case": kind, "files": files, **info}))


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_network(component: str, config: Any, seed: int) -> tuple[Any, Tensors]:
    """A network of random weights, and these weights under original names in bfloat16."""
    network: nn.Module = build(component, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        fan_in = parameter.shape[1:].numel() if parameter.dim() > 1 else 16
        values = torch.randn(parameter.shape, generator=generator) * max(fan_in, 1) ** -0.5
        is_scale = ("norm" in name and name.endswith("weight")) or name.endswith("gamma")
        parameter.copy_((values + 1 if is_scale else values).bfloat16())
    original = to_original(component, config, network.state_dict())
    return network, {key: tensor.bfloat16() for key, tensor in original.items()}


@dataclass(frozen=True)
class DitSizes:
    """The sizes of a transformer case; all other than in the golden set."""

    dim: int = 96
    heads: int = 3
    layers: int = 3
    ffn_dim: int = 40
    text_len: int = 7
    audio_layers: int = 2
    audio_dim: int = 6
    tokens: int = 5
    latent: tuple[int, int, int] = (3, 4, 10)
    seed: int = 101

    @property
    def original(self) -> dict[str, Any]:
        """As the original writes them into case.json."""
        return {
            "model_type": "i2v",
            "patch_size": [1, 2, 2],
            "text_len": self.text_len,
            "in_dim": 36,
            "dim": self.dim,
            "ffn_dim": self.ffn_dim,
            "freq_dim": 32,
            "text_dim": 10,
            "out_dim": 16,
            "num_heads": self.heads,
            "num_layers": self.layers,
            "eps": 1e-6,
            "audio_window": 5,
            "intermediate_dim": 9,
            "output_dim": 14,
            "context_tokens": self.tokens,
            "vae_scale": 4,
        }

    @property
    def ours(self) -> TransformerConfig:
        return TransformerConfig(
            dim=self.dim,
            ffn_dim=self.ffn_dim,
            heads=self.heads,
            layers=self.layers,
            freq_dim=32,
            text_dim=10,
            text_tokens=self.text_len,
            audio_layers=self.audio_layers,
            audio_dim=self.audio_dim,
            audio_hidden=9,
            audio_token_dim=14,
            audio_tokens=self.tokens,
        )


def transformer_case(golden: Path, sizes: DitSizes, persons: int = 1) -> None:
    """`dit_single` or `dit_multi`; the second has weights of its own."""
    t, h, w = sizes.latent
    network, weights = random_network("transformer", sizes.ours, sizes.seed)
    frames = 4 * t - 3
    inputs = {
        "latent": draw(16, t, h, w, seed=1),
        "y": draw(1, 20, t, h, w, seed=2),
        "clip_fea": draw(1, 257, 1280, seed=3).bfloat16(),
        "context": draw(sizes.text_len - 2, 10, seed=4).bfloat16(),
        "audio": draw(persons, frames, 5, sizes.audio_layers, sizes.audio_dim, seed=5).bfloat16(),
        "timesteps": torch.tensor([1000.0, 612.25, 3.5]),
    }
    regions = None
    if persons == 2:
        masks = torch.zeros(3, h, w)
        masks[0, :, : w // 2 - 1], masks[1, :, w // 2 :] = 1, 1
        masks[2] = 1 - masks[:2].amax(0)
        inputs["ref_target_masks"] = masks
        tokens = nearest(masks.numpy(), (h // 2, w // 2))
        regions = torch.from_numpy(tokens).flatten(1)

    def predict(step: int, audio: Tensor, regions: Tensor | None) -> Tensor:
        return _predict(network, inputs, step, audio, regions)

    audio = inputs["audio"].float()[None]
    outputs = {f"velocity_t{i}": predict(i, audio, regions) for i in range(3)}
    silent = "velocity_t0_null_audio" if persons == 2 else "velocity_t0_zero_audio"
    outputs[silent] = predict(0, torch.zeros_like(audio[:, :1]), None)
    if regions is not None:
        outputs["velocity_t0_swapped_masks"] = predict(0, audio, regions[[1, 0, 2]])
    kind = "dit_multi" if persons == 2 else "dit_single"
    write_case(golden / f"case_{kind}", kind, {"config": sizes.original}, weights, inputs, outputs)


def _predict(
    network: InfiniteTalkTransformer,
    inputs: Tensors,
    step: int,
    audio: Tensor,
    regions: Tensor | None,
) -> Tensor:
    latent = inputs["latent"][None]
    conditioning = Conditioning(
        inputs["y"],
        network.rotary(latent.shape[2:]),
        network.text_keys(inputs["context"].float()[None]),
        network.image_keys(inputs["clip_fea"].float()),
        network.audio_keys(audio),
        regions,
    )
    return network(latent, inputs["timesteps"][step][None], conditioning, sdpa)[0]


def vae_case(golden: Path, config: VAEConfig, *, frames: int, size: tuple[int, int]) -> None:
    vae, weights = random_network("vae", config, seed=102)
    video = draw(3, frames, *size, seed=6).clamp(-1, 1)
    latent = draw(16, 1 + (frames - 1) // 4, size[0] // 8, size[1] // 8, seed=7)
    grey = torch.cat((video[:, :1], torch.zeros_like(video[:, 1:])), 1)
    outputs = {
        "encode_video": vae.encode(video[None])[0],
        "encode_first_frame_only_rest_zero": vae.encode(grey[None])[0],
        "encode_single_frame": vae.encode(video[None, :, :1])[0],
        "decode_random_latent": vae.decode(latent[None])[0],
        "decode_single_latent": vae.decode(latent[None, :, :1])[0],
    }
    info = {
        "config": {
            "dim": config.dim,
            "z_dim": config.z_dim,
            "dim_mult": list(config.dim_mult),
            "num_res_blocks": config.num_res_blocks,
            "attn_scales": [],
            "temperal_downsample": list(config.temporal_downsample),
        }
    }
    statistics = {"mean": torch.tensor(LATENT_MEAN), "std": torch.tensor(LATENT_STD)}
    inputs = {"video": video, "latent": latent, **statistics}
    write_case(golden / "case_vae", "vae", info, weights, inputs, outputs)


def text_case(golden: Path, config: TextEncoderConfig) -> None:
    encoder, weights = random_network("text_encoder", config, seed=103)
    lengths = (1, 12, 40)
    ids = torch.randint(2, config.vocab, (3, 40), generator=torch.Generator().manual_seed(8))
    mask = (torch.arange(40) < torch.tensor(lengths)[:, None]).long()
    outputs = {f"context{i}": encoder(ids[i, :n].tolist())[0] for i, n in enumerate(lengths)}
    info = {
        "config": {
            "vocab": config.vocab,
            "dim": config.dim,
            "dim_attn": config.dim_attn,
            "dim_ffn": config.dim_ffn,
            "num_heads": config.heads,
            "num_layers": config.layers,
            "num_buckets": config.buckets,
        },
        "text_cleaning": [{"text": " a  b ", "cleaned": "a b"}],
    }
    write_case(golden / "case_t5", "t5", info, weights, {"ids": ids, "mask": mask}, outputs)


def image_case(golden: Path, config: ImageEncoderConfig) -> None:
    encoder, weights = random_network("image_encoder", config, seed=104)
    image = draw(1, 3, 1, 30, 50, seed=9).clamp(-1, 1)
    outputs = {"features0": encoder(image[:, :, 0])}
    info = {
        "config": {
            "vision_dim": config.dim,
            "vision_mlp_ratio": config.mlp_ratio,
            "vision_heads": config.heads,
            "vision_layers": config.layers,
            "patch_size": config.patch,
            "image_size": config.image_size,
        }
    }
    inputs = {"image0_normalised": image}
    write_case(golden / "case_clip", "clip", info, weights, inputs, outputs)


def speech_case(golden: Path, config: AudioEncoderConfig, samples: int) -> None:
    encoder, weights = random_network("audio_encoder", config, seed=105)
    wave = 0.1 * draw(samples, seed=10)
    level = measure([wave.numpy()])
    values = torch.from_numpy(normalise(wave.numpy(), level))
    outputs = {
        "loaded_16k": wave,
        "loudness_normalised": wave * level.gain,
        "input_values": values,
        "embedding": encoder(values, reference_frames(samples)),
    }
    info = {
        "config": {
            "hidden_size": config.dim,
            "conv_dim": [config.conv_dim] * 7,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.ffn_dim,
            "num_conv_pos_embeddings": config.position_kernel,
            "num_conv_pos_embedding_groups": config.position_groups,
        },
        "frames": reference_frames(samples),
    }
    write_case(golden / "case_wav2vec", "wav2vec", info, weights, {}, outputs)


@dataclass(frozen=True)
class Run:
    """One run of the window loop."""

    frame_num: int = 17
    motion_frame: int = 9
    steps: int = 2
    shift: float = 3.0
    text: float = 1.0
    audio: float = 1.0
    max_frames: int = 1000
    color: float = 0.0
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    speech: tuple[int, ...] = (30,)
    apg_threshold: float | None = None
    is_video: bool = False

    @property
    def original(self) -> dict[str, Any]:
        is_apg = self.apg_threshold is not None
        apg = {"use_apg": True, "apg_norm_threshold": self.apg_threshold} if is_apg else {}
        boxes = {f"person{i + 1}": list(box) for i, box in enumerate(self.boxes)}
        return {
            "frame_num": self.frame_num,
            "motion_frame": self.motion_frame,
            "sampling_steps": self.steps,
            "shift": self.shift,
            "text_guide_scale": self.text,
            "audio_guide_scale": self.audio,
            "max_frames_num": self.max_frames,
            "color_correction_strength": self.color,
            "bbox": boxes or None,
            "persons": len(self.speech),
            "audio_frames": list(self.speech),
            "condition": "video" if self.is_video else "image",
            "branch_order": ["cond", "drop_audio"]
            if self.text == 1
            else ["cond", "drop_text", "uncond"],
            "extra": apg,
        }

    @property
    def ours(self) -> GenerationSpec:
        return replace(
            specify("best"),
            steps=self.steps,
            shift=self.shift,
            text_guidance=self.text,
            audio_guidance=self.audio,
            window=self.frame_num,
            motion_frames=self.motion_frame,
            color_strength=self.color,
            boxes=tuple(Box(*box) for box in self.boxes),
            apg=None if self.apg_threshold is None else Apg(norm_threshold=self.apg_threshold),
        )


@dataclass(frozen=True)
class Film:
    """A video in memory."""

    pixels: np.ndarray
    is_still: bool = False

    @property
    def height(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[2])

    def frame(self, index: int) -> np.ndarray:
        return np.asarray(self.pixels[min(index, len(self.pixels) - 1)])


SIZE = (32, 64)


def pipeline_case(golden: Path, sizes: DitSizes, runs: dict[str, Run], first_draw: int = 0) -> None:
    """`pipeline_single`, its transformer taken from a `dit_single` beside it.

    Args:
        first_draw: number of the first noise tensor of every run.
    """
    transformer_case(golden, sizes)
    vae_config = VAEConfig(dim=4, dim_mult=(1, 1, 2, 2), num_res_blocks=1)
    vae, vae_weights = random_network("vae", vae_config, seed=106)
    clip, clip_weights = random_network("image_encoder", ImageEncoderConfig(layers=1), seed=107)
    networks = (random_network("transformer", sizes.ours, sizes.seed)[0], vae, clip)
    inputs = _pipeline_inputs(sizes, rows=max(run.speech[0] for run in runs.values()))
    outputs: Tensors = {}
    for name, run in runs.items():
        outputs |= _render(networks, name, run, inputs, first_draw)
    info = {
        "config": {
            "dit": sizes.original,
            "vae": {
                "dim": vae_config.dim,
                "z_dim": vae_config.z_dim,
                "dim_mult": list(vae_config.dim_mult),
                "num_res_blocks": vae_config.num_res_blocks,
                "temporal_downsample": list(vae_config.temporal_downsample),
            },
            "buckets": {"0.50": [list(SIZE), 1], "2.00": [list(SIZE[::-1]), 1]},
        },
        "runs": {name: run.original for name, run in runs.items()},
    }
    weights = {f"vae.{k}": t for k, t in vae_weights.items()}
    weights |= {f"clip.{k}": t for k, t in clip_weights.items()}
    folder = golden / "case_pipeline_single"
    write_case(folder, "pipeline_single", info, weights, inputs, outputs)


def _pipeline_inputs(sizes: DitSizes, rows: int) -> Tensors:
    random = np.random.default_rng(11)
    shape = (rows, sizes.audio_layers, sizes.audio_dim)
    return {
        "image": torch.from_numpy(random.integers(0, 256, (40, 70, 3), dtype=np.uint8)),
        "video": torch.from_numpy(random.integers(0, 256, (9, 40, 70, 3), dtype=np.uint8)),
        "context": draw(5, 10, seed=12).bfloat16(),
        "context_null": draw(3, 10, seed=13).bfloat16(),
        "audio_person1": draw(*shape, seed=14).bfloat16(),
        "audio_person2": draw(*shape, seed=15).bfloat16(),
    }


def _render(
    networks: tuple[Any, Any, Any], name: str, run: Run, inputs: Tensors, first_draw: int
) -> Tensors:
    """The outputs of a run; its noise is added to the inputs."""
    spec, (transformer, vae, clip) = run.ours, networks
    plan = plan_reference(run.speech, spec.window, spec.motion_frames, run.max_frames)
    persons = range(1, len(run.speech) + 1)
    voices = [EmbeddedSpeech(inputs[f"audio_person{person}"].float()) for person in persons]
    texts = Texts(*(inputs[key].float()[None] for key in ("context", "context_null")))
    scene = Film(inputs["video"].numpy()) if run.is_video else Picture(inputs["image"].numpy())
    conditioner = Conditioner(transformer, vae, clip, spec, scene, texts, voices, SIZE)
    noise = [draw(1, 16, *conditioner.latent_size, seed=16 + w.index) for w in plan.windows]
    for index, tensor in enumerate(noise):
        inputs[f"{name}.noise{first_draw + index:02d}_randn"] = tensor[0]
    renderer = WindowRenderer(transformer, vae, conditioner, spec, noise=lambda k, _: noise[k])
    heard = (Heard(w, rows) for w, rows in zip(plan.windows, plan.rows, strict=True))
    meter = ProgressMeter(len(plan.windows), spec.steps, lambda _: None)
    windows = list(renderer.render(heard, None, meter, lambda: False))
    new = [w.frames[:, w.window.first_new : w.window.last_new] for w in windows]
    latents = {f"{name}.chunk{w.window.index}.final_latent": w.latent[0] for w in windows}
    return {**latents, f"{name}.frames": torch.cat(new, 1)}
