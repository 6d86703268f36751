"""InfiniteTalk: a picture and a voice to video, window after window (arXiv 2508.14033).

    text, picture  -> keys and values, once
    for every window:
        its condition frame      -> condition latent, image keys      (once for a still picture)
        end of the last window   -> motion latent
        the speech it hears      -> audio keys
        noise -> Euler steps -> latent -> frames -> colour match -> uint8

Rendering is a generator: whoever consumes it decides where frames go, and memory holds one window
whatever the length. Noise depends on (seed, window, use) alone, so a resumed job continues with the
very noise it would have had.

Axes: b batch (1), c channels, f video frames, t latent frames, h w size. Pixels in [-1, 1].
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from infinitetalk.conditioning import Conditioner, Heard, Scene, Texts, latent_size
from infinitetalk.errors import Canceled, CompilerUnavailable, GenerationDiverged
from infinitetalk.media.audio import SpeechFile
from infinitetalk.media.image import choose_bucket
from infinitetalk.models.attention import Attention, attention_backend, sdpa
from infinitetalk.models.compiled import Compiler
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer, TimeEmbedding
from infinitetalk.models.vae import VideoVAE
from infinitetalk.progress import Canceling, OnProgress, ProgressMeter, Stage
from infinitetalk.prompt_cache import PromptCache
from infinitetalk.sampling.color import match_color
from infinitetalk.sampling.frame_guard import are_intact
from infinitetalk.sampling.guidance import Branch, branches
from infinitetalk.sampling.sampler import Guidance, denoise
from infinitetalk.sampling.schedule import timesteps
from infinitetalk.sampling.step_cache import (
    COEFFICIENTS_480,
    COEFFICIENTS_720,
    ResidualCache,
    StepPlan,
    compute_all,
    plan_steps,
)
from infinitetalk.sampling.windows import Window, WindowPlan, heard_rows
from infinitetalk.spec import FPS, GenerationSpec
from infinitetalk.speech import StreamedSpeech
from infinitetalk.weights.load import Model

LATENT_CHANNELS = 16
log = logging.getLogger(__name__)

Noise = Callable[[int, tuple[int, ...]], Tensor]
"""(window, shape) -> standard normal float32 noise on the CPU."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished window, off the device."""

    window: Window
    count: int  # windows of the job
    frames: np.ndarray  # uint8 f h w 3: the new ones only
    motion: Tensor  # float32 3 f h w on the CPU: what the next window starts from


@dataclass(frozen=True, slots=True)
class WindowPixels:
    """A finished window on the device."""

    window: Window
    latent: Tensor  # b 16 t h w, as it went into the VAE
    frames: Tensor  # 3 f h w: all of the window's, colours matched


def seeded_noise(seed: int, use: str = "latent") -> Noise:
    """Noise of its own for every (seed, window, use), the same on every device."""

    def noise(window: int, shape: tuple[int, ...]) -> Tensor:
        digest = hashlib.sha256(f"{seed}/{window}/{use}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randn(shape, generator=generator)

    return noise


def video_frames(spec: GenerationSpec, speech_s: float) -> int:
    """Frames of the video for speech of this length, cut to the job's `max_seconds`."""
    limit = speech_s if spec.max_seconds is None else min(speech_s, spec.max_seconds)
    return max(1, round(limit * FPS))


class InfiniteTalkPipeline:
    """The networks of one prepared model, rendering one job after another.

    Args:
        attention: name of the self-attention backend, or "auto".
        prompts: where encoded prompts are kept; None encodes them again for every job.

    Raises:
        AttentionUnavailable: the backend cannot run on the model's device.
    """

    def __init__(
        self, model: Model, attention: str = "auto", prompts: PromptCache | None = None
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._attention = attention_backend(attention, model.device)

    @property
    def attention(self) -> str:
        """Name of the self-attention backend."""
        return self._attention.__name__

    @property
    def device(self) -> torch.device:
        return self._model.device

    @property
    def weights_fingerprint(self) -> str:
        return self._model.manifest.fingerprint

    @property
    def max_speakers(self) -> int:
        """Voices that the weights can tell apart."""
        return self._model.manifest.speakers

    @torch.inference_mode()
    def compile(self, spec: GenerationSpec, compiler: Compiler = "inductor") -> None:
        """Compile what windows need, whatever their size and number of voices; before any job.

        Raises:
            CompilerUnavailable: something failed; the model runs as it did before.
        """
        network, encoder = self._model.transformer, self._model.image_encoder
        vae = self._model.vae
        size = latent_size(spec.window, choose_bucket(1, 1, spec.buckets))
        network.compile_blocks(compiler)
        try:
            for voices in range(1, self.max_speakers + 1):
                network.warm_up(size, encoder.tokens, voices, self._attention)
            if vae.dtype is torch.float16:
                vae.fuse()
        except Exception as error:  # compilers, linkers and drivers fail in ways of their own
            network.run_eagerly()
            raise CompilerUnavailable("The model cannot be compiled on this machine.") from error

    @torch.inference_mode()
    def render(
        self,
        spec: GenerationSpec,
        scene: Scene,
        voices: Sequence[SpeechFile],
        plan: WindowPlan,
        *,
        first_window: int = 0,
        motion: Tensor | None = None,
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> Iterator[Rendered]:
        """Render a job window by window.

        Args:
            voices: one or two, on the time line of the video.
            first_window, motion: where a resumed job continues, and the last frames before that
                (3 f h w).

        Raises:
            Canceled: `canceling` said so.
            GenerationDiverged: a window is broken, with SDPA too.
        """
        progress = ProgressMeter(plan.count, spec.steps, on_progress, first_window=first_window)
        progress.stage(Stage.ENCODING)
        texts = self._encode_texts(spec)
        model, frames = self._model, plan.covered_frames
        encode = self._on_device(model.audio_encoder)
        heard = [StreamedSpeech(voice, encode, frames) for voice in voices]
        size = choose_bucket(scene.height, scene.width, spec.buckets)
        conditioner = Conditioner(
            model.transformer, model.vae, model.image_encoder, spec, scene, texts, heard, size
        )
        renderer = WindowRenderer(
            model.transformer,
            model.vae,
            conditioner,
            spec,
            noise=seeded_noise(spec.seed),
            attention=self._attention,
        )
        windows = _heard_windows(plan, first_window, len(voices))
        rendered = renderer.render(windows, motion, progress, canceling)
        yield from map(partial(_to_host, plan=plan), rendered)  # map holds no window on the device

    def _encode_texts(self, spec: GenerationSpec) -> Texts:
        needed = branches(spec.text_guidance, spec.audio_guidance)
        needs_negative = any(not branch.has_text for branch in needed)
        negative = self._encode_text(spec.negative_prompt) if needs_negative else None
        return Texts(self._encode_text(spec.prompt), negative)

    def _encode_text(self, prompt: str) -> Tensor:
        """b l c on the device of the transformer; the text encoder may run on the CPU."""
        encode = self._run_text_encoder
        prompts = self._prompts
        found = encode(prompt) if prompts is None else prompts.embedding(prompt, encode)
        return found.to(self._model.device)

    def _run_text_encoder(self, prompt: str) -> Tensor:
        return self._model.text_encoder(self._model.tokenizer(prompt))

    def _on_device(
        self, encode: Callable[[Tensor, int], Tensor]
    ) -> Callable[[Tensor, int], Tensor]:
        return lambda wave, frames: encode(wave.to(self._model.device), frames)


def _heard_windows(plan: WindowPlan, first: int, persons: int) -> Iterator[Heard]:
    for index in range(first, plan.count):
        window = plan.window(index)
        rows = heard_rows(window.start, window.length, plan.covered_frames)
        yield Heard(window, (rows,) * persons)


class WindowRenderer:
    """The window loop of one job.

    Args:
        noise: injectable, for golden runs.
        attention: self-attention backend; a window that comes out broken is rendered again with
            SDPA.
    """

    def __init__(
        self,
        transformer: InfiniteTalkTransformer,
        vae: VideoVAE,
        conditioner: Conditioner,
        spec: GenerationSpec,
        *,
        noise: Noise,
        attention: Attention = sdpa,
    ) -> None:
        self._transformer = transformer
        self._vae = vae
        self._conditioner = conditioner
        self._spec = spec
        self._noise = noise
        self._attention = attention
        self._guidance = Guidance.of(spec)
        self._schedule = Schedule.of(spec, self._guidance, transformer, conditioner.device)
        self._reference = conditioner.pixels(0)

    def render(
        self,
        windows: Iterable[Heard],
        motion: Tensor | None,
        progress: ProgressMeter,
        canceling: Canceling,
    ) -> Iterator[WindowPixels]:
        """Render windows in order.

        Args:
            motion: end of the window before the first one given, 3 f h w; None at the start.

        Raises:
            Canceled: `canceling` said so.
            GenerationDiverged: a window is broken, with SDPA too.
        """
        for heard in windows:
            pixels = self._render_window(heard, motion, progress, canceling)
            motion = pixels.frames[:, -self._spec.motion_frames :].clone()
            yield pixels
            del pixels  # its memory is free for the next window

    def _render_window(
        self, heard: Heard, motion: Tensor | None, progress: ProgressMeter, canceling: Canceling
    ) -> WindowPixels:
        index = heard.window.index
        progress.stage(Stage.ENCODING, index)
        view = self._conditioner.view(heard.window.start)
        conditionings = self._conditioner.window(heard, view, self._guidance.branches)
        start = view.first_frame if motion is None else self._encode_motion(motion)
        on_step = self._step_watcher(index, progress, canceling)
        for attention in dict.fromkeys((self._attention, sdpa)):  # SDPA once, should it be both
            if attention is not self._attention:
                progress.fall_back()
            progress.stage(Stage.DENOISING, index)
            latent = self._denoise(index, conditionings, start, attention, on_step)
            progress.stage(Stage.DECODING)
            frames = self._decode(latent, canceling)
            if are_intact(frames):
                matched = match_color(frames, self._reference, self._spec.color_strength)
                return WindowPixels(heard.window, latent, matched)
            log.warning("Window %d came out broken with %s.", index + 1, attention.__name__)
        raise GenerationDiverged("The sampler produced values that are not a picture.")

    def _decode(self, latent: Tensor, canceling: Canceling) -> Tensor:
        """b 16 t h w to 3 f h w; long on a CPU, so cancel is asked here too."""
        return self._vae.decode(latent, partial(_raise_if, canceling))[0]

    def _encode_motion(self, motion: Tensor) -> Tensor:
        """The end of the window before, as the fresh clip that the network was trained with."""
        return self._vae.encode(motion[None].to(self._conditioner.device))

    def _step_watcher(
        self, window: int, progress: ProgressMeter, canceling: Canceling
    ) -> Callable[[int], None]:
        def on_step(done: int) -> None:
            _raise_if(canceling)
            progress.step(done, self._schedule.skipped_forwards(window, done, self._guidance))

        return on_step

    def _denoise(
        self,
        window: int,
        conditionings: Mapping[Branch, Conditioning],
        motion: Tensor,
        attention: Attention,
        on_step: Callable[[int], None],
    ) -> Tensor:
        network, schedule = self._transformer, self._schedule
        cache = ResidualCache(schedule.plan)  # a new one for every window

        def predict(branch: Branch, step: int, latent: Tensor) -> Tensor:
            conditioning, time = conditionings[branch], schedule.embeddings[step]
            tokens = network.embed(latent, conditioning.latent)

            def blocks(x: Tensor) -> Tensor:
                return network.run_blocks(x, time.blocks, conditioning, attention)

            tokens = cache.apply(branch, step, tokens, blocks)
            return network.unembed(tokens, time.head, latent.shape[2:])

        shape = (1, LATENT_CHANNELS, *self._conditioner.latent_size)
        noise = self._noise(window, shape).to(self._conditioner.device)
        return denoise(predict, noise, motion, schedule.times, self._guidance, on_step=on_step)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Timesteps of a job with everything that depends on them alone."""

    times: tuple[float, ...]
    embeddings: tuple[TimeEmbedding, ...]
    plan: StepPlan

    @classmethod
    def of(
        cls,
        spec: GenerationSpec,
        guidance: Guidance,
        transformer: InfiniteTalkTransformer,
        device: torch.device,
    ) -> "Schedule":
        times = timesteps(spec.steps, spec.shift)
        embeddings = tuple(transformer.embed_time(t[None].to(device)) for t in times[:-1])
        plan = compute_all(spec.steps)
        if spec.step_cache_threshold > 0:
            coefficients = COEFFICIENTS_720 if spec.resolution == "720p" else COEFFICIENTS_480
            modulations = [embedding.blocks for embedding in embeddings]
            forced = guidance.steps_with_new_branch(spec.steps)
            plan = plan_steps(modulations, spec.step_cache_threshold, coefficients, forced)
        return cls(tuple(times.tolist()), embeddings, plan)

    def skipped_forwards(self, window: int, steps_done: int, guidance: Guidance) -> int:
        """Forwards left out by the step cache, from the start of the job."""
        skipped = [
            0 if is_computed else len(guidance.branches_at(step))
            for step, is_computed in enumerate(self.plan.is_computed)
        ]
        return window * sum(skipped) + sum(skipped[:steps_done])


def _to_host(pixels: WindowPixels, plan: WindowPlan) -> Rendered:
    window = pixels.window
    new = to_uint8(pixels.frames[:, window.first_new : window.last_new])
    motion = _off_device(pixels.frames[:, -plan.motion_frames :].float())
    return Rendered(window, plan.count, new, motion)


def to_uint8(frames: Tensor) -> np.ndarray:
    """3 f h w in [-1, 1] to uint8 f h w 3; fractions are cut off, as in the reference."""
    levels = ((frames + 1) / 2 * 255).clamp(0, 255).to(torch.uint8)
    return _off_device(levels.permute(1, 2, 3, 0).contiguous()).numpy()


def _off_device(x: Tensor) -> Tensor:
    """On the CPU; from a GPU into page-locked memory, which is 20 times as fast."""
    if x.device.type != "cuda":
        return x.cpu()
    return torch.empty_like(x, device="cpu", pin_memory=True).copy_(x)


def _raise_if(canceling: Canceling) -> None:
    if canceling():
        raise Canceled("The job was canceled.")
