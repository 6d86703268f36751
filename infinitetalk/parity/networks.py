"""Golden cases of the networks: transformer, VAE, text, image and speech encoder."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import soundfile
import torch
from torch import Tensor, nn

from infinitetalk.media.audio import SPEECH_RATE
from infinitetalk.media.image import nearest
from infinitetalk.media.loudness import measure, normalise
from infinitetalk.media.resample import resample
from infinitetalk.models.attention import sdpa
from infinitetalk.models.audio_encoder import AudioEncoder, AudioEncoderConfig, reference_frames
from infinitetalk.models.audio_projection import group_windows
from infinitetalk.models.block import Block, speaker_positions
from infinitetalk.models.image_encoder import ImageEncoder, ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoder, TextEncoderConfig, clean_prompt
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.models.vae import VAEConfig, VideoVAE
from infinitetalk.parity.case import Case, Check
from infinitetalk.weights.convert import build, from_original
from infinitetalk.weights.load import component_dtypes


def make(
    component: str, config: Any, weights: dict[str, Tensor], case: Case, dtype: torch.dtype
) -> Any:
    """A network with the case's weights, on the case's device."""
    network = build(component, config, "meta")
    state = from_original(component, config, {k: t.float() for k, t in weights.items()})
    network.load_state_dict(state, assign=True)
    return network.to(case.device, dtype)


def transformer_config(config: dict[str, Any], audio: Tensor) -> TransformerConfig:
    """Our names for the original's configuration; the audio's sizes come from its tensor."""
    return TransformerConfig(
        dim=config["dim"],
        ffn_dim=config["ffn_dim"],
        heads=config["num_heads"],
        layers=config["num_layers"],
        in_channels=config["in_dim"],
        out_channels=config["out_dim"],
        patch=tuple(config["patch_size"]),
        freq_dim=config["freq_dim"],
        text_dim=config["text_dim"],
        text_tokens=config["text_len"],
        audio_window=config["audio_window"],
        audio_layers=audio.shape[-2],
        audio_dim=audio.shape[-1],
        audio_hidden=config["intermediate_dim"],
        audio_token_dim=config["output_dim"],
        audio_tokens=config["context_tokens"],
        vae_stride=config["vae_scale"],
        eps=config["eps"],
    )


def transformer_case(case: Case) -> Iterator[Check]:
    """`dit_single` and `dit_multi`: predictions, and intermediates at the first timestep."""
    inputs = {key: tensor.to(case.device) for key, tensor in case.inputs.items()}
    config = transformer_config(case.info["config"], inputs["audio"])
    network = make("transformer", config, case.weights, case, case.dtype)
    run = _TransformerRun(network, inputs)
    audio = inputs["audio"][None]
    silence = torch.zeros_like(audio[:, :1])
    recorded: dict[str, Tensor] = {}
    with _recording(network, recorded):
        first = run(0, audio, run.regions)
    yield from case.compare_present([("velocity_t0", first)])
    yield from case.compare_present(recorded.items())
    yield from case.compare_present(_projection_inputs(network, inputs["audio"]))
    for index in range(len(inputs["timesteps"])):
        embedding = network.embed_time(inputs["timesteps"][index][None])
        suffix = f"_t{index}" if index else ""
        yield from case.compare_present(
            (
                (f"mid_time_e{suffix}", embedding.head),
                (f"mid_time_e0_flat{suffix}", embedding.blocks.flatten(1)),
            )
        )
        if index and f"velocity_t{index}" in case.outputs:
            yield from case.compare(f"velocity_t{index}", run(index, audio, run.regions))
    for output in ("velocity_t0_zero_audio", "velocity_t0_null_audio"):
        if output in case.outputs:
            yield from case.compare(output, run(0, silence, None))
    if "velocity_t0_swapped_masks" in case.outputs:
        assert run.regions is not None
        swapped = run.regions[[1, 0, 2]]
        yield from case.compare("velocity_t0_swapped_masks", run(0, audio, swapped))


class _TransformerRun:
    """Forwards of a transformer case."""

    def __init__(self, network: InfiniteTalkTransformer, inputs: dict[str, Tensor]) -> None:
        self._network = network
        self._inputs = inputs
        self.regions = self._token_regions()

    def __call__(self, step: int, audio: Tensor, regions: Tensor | None) -> Tensor:
        inputs, network = self._inputs, self._network
        latent = inputs["latent"][None]
        conditioning = Conditioning(
            inputs["y"],
            network.rotary(latent.shape[2:]),
            network.text_keys(inputs["context"][None]),
            network.image_keys(inputs["clip_fea"]),
            network.audio_keys(audio),
            regions,
        )
        return network(latent, inputs["timesteps"][step][None], conditioning, sdpa)[0]

    def _token_regions(self) -> Tensor | None:
        if "ref_target_masks" not in self._inputs:
            return None
        masks = self._inputs["ref_target_masks"]
        _, rows, columns = self._network.token_grid(self._inputs["latent"].shape[1:])
        tokens = torch.from_numpy(nearest(masks.cpu().numpy(), (rows, columns)) > 0)
        return tokens.to(masks).flatten(1)


class _recording:
    """While open, keeps what flows through a transformer under the names of the golden outputs."""

    def __init__(self, network: InfiniteTalkTransformer, into: dict[str, Tensor]) -> None:
        self._network = network
        self._into = into
        self._hooks: list[Any] = []

    def __enter__(self) -> None:
        network = self._network
        self._keep(network.patch_embedding, "mid_patch_embed_conv")
        self._keep(network.text_embedding, "mid_text_ctx")
        self._keep(network.img_emb, "mid_img_ctx")
        self._keep(network.audio_proj, "mid_audio_tokens")
        self._keep(network.head, "mid_head_out")
        for index, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            name = f"mid_block{index}"
            self._keep(block, f"{name}_out")
            self._keep(block.cross_attn, f"{name}_cross_attn")
            self._keep(block.audio_cross_attn, f"{name}_audio_cross_attn")
            self._hook(block.self_attn, self._keep_self_attention(name))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, module: nn.Module, output: str) -> None:
        def keep(value: Tensor) -> None:
            self._into[output] = value

        self._hook(module, keep)

    def _keep_self_attention(self, name: str) -> Callable[[tuple[Tensor, Tensor | None]], None]:
        def keep(value: tuple[Tensor, Tensor | None]) -> None:
            self._into[f"{name}_self_attn"], looks = value
            if looks is not None:
                self._into[f"{name}_x_ref_attn_map"] = looks[0]
                self._into[f"{name}_rope1d_q_pos"] = speaker_positions(looks)[0]

        return keep

    def _hook(self, module: nn.Module, keep: Callable[[Any], None]) -> None:
        self._hooks.append(module.register_forward_hook(lambda _m, _a, value: keep(value)))


def _projection_inputs(
    network: InfiniteTalkTransformer, audio: Tensor
) -> Iterator[tuple[str, Tensor]]:
    first, later = group_windows(audio, network.config.vae_stride)
    yield "mid_audio_first_in_c4", first[..., :4]
    yield "mid_audio_later_in_c4", later[..., :4]


def vae_case(case: Case) -> Iterator[Check]:
    """Encode, decode, and the streaming decode, which must be the same. Always float32."""
    case.dtype = torch.float32
    info = case.info["config"]
    config = VAEConfig(
        dim=info["dim"],
        z_dim=info["z_dim"],
        dim_mult=tuple(info["dim_mult"]),
        num_res_blocks=info["num_res_blocks"],
        temporal_downsample=tuple(info["temperal_downsample"]),
        mean=tuple(case.inputs["mean"].tolist()),
        std=tuple(case.inputs["std"].tolist()),
    )
    vae: VideoVAE = make("vae", config, case.weights, case, torch.float32)
    video, latent = (case.inputs[key].to(case.device)[None] for key in ("video", "latent"))
    grey = torch.cat((video[:, :, :1], torch.zeros_like(video[:, :, 1:])), 2)
    encoded = vae.encode(video)
    mean, std = (torch.tensor(x, device=case.device) for x in (config.mean, config.std))
    unnormalised = encoded[0] * std.view(-1, 1, 1, 1) + mean.view(-1, 1, 1, 1)
    yield from case.compare_present(
        (
            ("encode_video", encoded[0]),
            ("encode_video_mu_unnormalised", unnormalised),
            ("encode_first_frame_only_rest_zero", vae.encode(grey)[0]),
            ("encode_single_frame", vae.encode(video[:, :, :1])[0]),
            ("encode_5_frames", vae.encode(video[:, :, :5])[0]),
            ("encode_8_frames_drops_3", vae.encode(video[:, :, :8])[0]),
            ("decode_of_encode", vae.decode(encoded)[0]),
            ("decode_random_latent", vae.decode(latent)[0]),
            ("decode_single_latent", vae.decode(latent[:, :, :1])[0]),
        )
    )
    if "decode_random_latent" in case.outputs:
        whole = vae.net.decode(_denormalised(latent, mean, std)).sample[0]
        yield from case.compare("decode_random_latent", whole)
    if "decode_random_latent_unclamped" in case.outputs:
        clamped = case.outputs["decode_random_latent_unclamped"].clamp(-1, 1)
        yield from case.compare("decode_random_latent", vae.decode(latent)[0], clamped)


def _denormalised(latent: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return latent * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)


def text_case(case: Case) -> Iterator[Check]:
    """Encoder rows of every prompt, the relative position buckets, and prompt cleaning."""
    info = case.info["config"]
    config = TextEncoderConfig(
        info["vocab"],
        info["dim"],
        info["dim_attn"],
        info["dim_ffn"],
        info["num_heads"],
        info["num_layers"],
        info["num_buckets"],
    )
    encoder: TextEncoder = make("text_encoder", config, case.weights, case, case.dtype)
    for row, (ids, mask) in enumerate(zip(case.inputs["ids"], case.inputs["mask"], strict=True)):
        context = encoder(ids[mask > 0].tolist())[0]
        yield from case.compare_present([(f"context{row}", context)])
        if "full_padded_output" in case.outputs:
            golden = case.outputs["full_padded_output"][row, : len(context)]
            yield from case.compare("full_padded_output", context, golden)
    if case.dtype == torch.float32 and "bucket_of_relative_position" in case.outputs:
        golden = case.outputs["bucket_of_relative_position"]
        reach = len(golden) // 2
        attention = encoder.net.encoder.block[0].layer[0].SelfAttention
        positions = torch.arange(-reach, reach + 1, device=case.device)
        buckets = attention._relative_position_bucket(positions)
        yield from case.compare("bucket_of_relative_position", buckets)
        yield from case.compare_present(_position_bias(case, attention))
    samples = case.info.get("text_cleaning", [])
    clean = all(clean_prompt(sample["text"]) == sample["cleaned"] for sample in samples)
    yield case.agree("text_cleaning", clean)


def _position_bias(case: Case, attention: Any) -> Iterator[tuple[str, Tensor]]:
    """The first rows of the first block's relative position bias."""
    output = "block0_pos_bias_first_rows"
    if output in case.outputs:
        _, rows, columns = case.outputs[output].shape
        positions = torch.arange(columns, device=case.device)
        relative = positions[None] - positions[:rows, None]
        bias = attention.relative_attention_bias(attention._relative_position_bucket(relative))
        yield output, bias.permute(2, 0, 1)


def image_case(case: Case) -> Iterator[Check]:
    """Pre-processing and features of every image; float16 on a GPU beside a bfloat16 model."""
    info = case.info["config"]
    config = ImageEncoderConfig(
        info["vision_dim"],
        info["vision_mlp_ratio"],
        info["vision_heads"],
        info["vision_layers"],
        info["patch_size"],
        info["image_size"],
    )
    dtype = torch.float32
    if case.dtype != torch.float32:
        dtype = component_dtypes(case.dtype, case.device)["image_encoder"]
    encoder: ImageEncoder = make("image_encoder", config, case.weights, case, dtype)
    for key, image in case.inputs.items():
        if match := re.fullmatch(r"image(\d+)_normalised", key):
            frame = image[:, :, 0].to(case.device)
            pixels = encoder.preprocess(frame)[:, :, ::4, ::4]
            name = f"pixels{match[1]}_after_preprocess_every4"
            features = (f"features{match[1]}", encoder(frame))
            yield from case.compare_present([(name, pixels), features])


def speech_case(case: Case) -> Iterator[Check]:
    """From the wav to the embedding, each stage from the golden value before it. Always float32."""
    case.dtype = torch.float32
    info = case.info["config"]
    config = AudioEncoderConfig(
        info["hidden_size"],
        info["conv_dim"][0],
        info["num_hidden_layers"],
        info["num_attention_heads"],
        info["intermediate_size"],
        info["num_conv_pos_embeddings"],
        info["num_conv_pos_embedding_groups"],
    )
    encoder: AudioEncoder = make("audio_encoder", config, case.weights, case, torch.float32)
    yield from _waveform_checks(case)
    if "input_values" in case.outputs:
        wave = case.outputs["input_values"].float().to(case.device)
        frames = reference_frames(len(wave))
        yield case.agree("frames", frames == case.info.get("frames", frames))
        yield from case.compare_present(_feature_outputs(encoder, wave, frames))
        yield from case.compare_present([("embedding", encoder(wave, frames))])
    if "second_audio_16k" in case.inputs:
        audio = case.inputs["second_audio_16k"].numpy()
        wave = torch.from_numpy(normalise(audio, measure([audio]))).to(case.device)
        embedding = encoder(wave, reference_frames(len(wave)))
        yield from case.compare_present([("second_embedding", embedding)])


def _waveform_checks(case: Case) -> Iterator[Check]:
    path = case.folder / str(case.info["files"].get("wav", ""))
    if path.is_file():
        samples, rate = soundfile.read(path, dtype="float32")
        loaded = torch.cat(
            [torch.from_numpy(block.copy()) for block in resample([samples], rate, SPEECH_RATE)]
        )
        yield from case.compare_present([("loaded_16k", loaded)])
    for prefix, stored in (("", case.outputs), ("second_", case.inputs)):
        key = f"{prefix}audio_16k" if prefix else "loaded_16k"
        if key not in stored:
            continue
        audio = stored[key].float().numpy()
        level = measure([audio])
        yield from case.compare_present(
            (
                (f"{prefix}loudness_normalised", torch.from_numpy(audio * level.gain)),
                (f"{prefix}input_values", torch.from_numpy(normalise(audio, level))),
            )
        )


def _feature_outputs(
    encoder: AudioEncoder, wave: Tensor, frames: int
) -> Iterator[tuple[str, Tensor]]:
    resampled: Any = encoder.net.feature_extractor
    yield "conv_features", resampled.convolutions(wave[None])[0].t()
    resampled.frames = frames
    yield "interpolated_features", resampled(wave[None])[0].t()
