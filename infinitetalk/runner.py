"""Jobs, one after another, on one loaded model: from a job folder to its result.

After every window its fragment is published, then the checkpoint; a killed job continues with the
window after that. Encoding a window overlaps the next one's denoising; the sound is encoded beside
the first ones. At the end all is joined by stream copy, whether the job was interrupted or not, so
both give the same frames.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from infinitetalk import __version__
from infinitetalk.checkpoint import Checkpoint, Identity, load_checkpoint, save_checkpoint
from infinitetalk.compile_cache import use_cache
from infinitetalk.conditioning import Picture, Scene
from infinitetalk.config import Settings
from infinitetalk.deployed_attention import deployed_attention
from infinitetalk.disclosure.credentials import video_signer
from infinitetalk.disclosure.label import draw_label, visible_label
from infinitetalk.disclosure.marking import check_disclosure, publish_marked
from infinitetalk.disclosure.metadata import tags
from infinitetalk.errors import (
    CompilerUnavailable,
    DeviceUnavailable,
    InvalidField,
    InvalidInput,
    OutOfMemory,
    Unavailable,
)
from infinitetalk.jobfolder import JobFolder, locked
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile, Track, combine_speakers
from infinitetalk.media.video import VideoFrames
from infinitetalk.media.writer import join, write_fragment, writing_sound
from infinitetalk.models.compiled import Compiler
from infinitetalk.pipeline import InfiniteTalkPipeline, Rendered, video_frames
from infinitetalk.progress import Canceling, OnProgress, Progress, Stage
from infinitetalk.prompt_cache import PromptCache
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import FPS, PRESETS, GenerationSpec, specify
from infinitetalk.weights.device_memory import free_memory, limit_memory, total_memory
from infinitetalk.weights.load import Model, load_model
from infinitetalk.weights.load import OnProgress as OnLoading
from infinitetalk.weights.locate import Located, choose_arithmetic, choose_weights
from infinitetalk.weights.selection import one_speaker_only

log = logging.getLogger(__name__)

MAX_VIDEO_MEGAPIXELS = 1000.0  # the deployment's own limit was held when the job was made


class Loading(StrEnum):
    """What loading consists of, in order."""

    WEIGHTS = "weights"
    ATTENTION = "attention"  # measured where the settings leave the choice
    COMPILING = "compiling"


OnPart = Callable[[Loading], None]
"""Told of every part of loading when it begins."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished job."""

    path: Path
    frames: int
    windows: int
    resumed_at: int  # the first window rendered in this run

    @property
    def duration_s(self) -> float:
        return self.frames / FPS


def choose_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:N, or auto.

    Raises:
        DeviceUnavailable: it is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceUnavailable(f"The device {name} is not on this machine.") from error
    return device


def gpu_name(device: torch.device) -> str | None:
    """What CUDA calls a GPU; None for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def is_compiling(choice: str, device: torch.device) -> bool:
    """Whether the setting `compile` means to compile on this device."""
    return choice == "on" or (choice == "auto" and device.type == "cuda")


def compile_pipeline(
    pipeline: InfiniteTalkPipeline,
    preset: str,
    settings: Settings,
    compiler: Compiler = "inductor",
) -> None:
    """Compile now what jobs would wait for; what is compiled is kept under HOME.

    Raises:
        CompilerUnavailable: there is none that works, and the settings demand it.
    """
    use_cache(settings.home, pipeline.device)
    started = time.monotonic()
    try:
        pipeline.compile(specify(preset), compiler)
    except CompilerUnavailable as error:
        if settings.compile == "on":
            raise
        log.warning("%s It runs without, which is slower: %r", error.message, error.__cause__)
        return
    log.info("compiled the transformer's blocks in %.0f s", time.monotonic() - started)


def why_not_on_gpu(preset: str, settings: Settings) -> str | None:
    """Why the chosen device cannot run the prepared weights of a preset; None when it can.

    What is in use does not count: it may be the engine that runs them already.
    """
    device = choose_device(settings.device)
    if device.type != "cuda":
        return "there is no GPU"
    try:
        choose_weights(preset, settings, device, total_memory(device, settings.memory_gigabytes))
    except Unavailable as error:
        return error.message.removesuffix(".")
    return None


class Runner:
    """One loaded model and the jobs it runs."""

    def __init__(
        self, pipeline: InfiniteTalkPipeline, weights: Located, settings: Settings
    ) -> None:
        self._pipeline = pipeline
        self._weights = weights
        self._settings = settings
        self._label = visible_label(settings)
        self._sign = video_signer(settings)

    @classmethod
    def load(
        cls,
        preset: str,
        settings: Settings,
        on_loading: OnLoading = lambda *_: None,
        on_part: OnPart = lambda _: None,
    ) -> "Runner":
        """Load the prepared weights of a preset.

        Args:
            on_loading: told how far the reading of each network is.
            on_part: told of every part when it begins.

        Raises:
            InvalidSetting: videos cannot be labelled or signed as the settings say.
            WeightsMissing, WeightsCorrupt: there are no good prepared weights.
            DeviceUnavailable, AttentionUnavailable, CompilerUnavailable: the settings do not fit
                this machine.
            DeviceTooSmall: its free memory holds none of the prepared weights.
        """
        check_disclosure(settings)
        on_part(Loading.WEIGHTS)
        device = choose_device(settings.device)
        limit_memory(device, settings.memory_gigabytes)
        free = free_memory(device, settings.memory_gigabytes)
        weights = choose_weights(preset, settings, device, free)
        log.info("weights of %s: %s", preset, weights.folder.name)
        log.info("memory for %s: %s", preset, weights.plan.sentence)
        model = load_model(
            weights.folder,
            device,
            choose_arithmetic(settings.precision, device),
            text_encoder=weights.plan.text_encoder,
            stamps=settings.stamps_folder,
            on_progress=on_loading,
        )
        prompts = PromptCache.of(model, settings)
        return cls.of(model, weights, settings, prompts, on_part)

    @classmethod
    def of(
        cls,
        model: Model,
        weights: Located,
        settings: Settings,
        prompts: PromptCache | None = None,
        on_part: OnPart = lambda _: None,
    ) -> "Runner":
        """The runner of a loaded model: its attention is chosen, its blocks are compiled.

        Args:
            prompts: where encoded prompts are kept; None encodes them again for every job.

        Raises:
            AttentionUnavailable, CompilerUnavailable: the settings do not fit this machine.
        """
        preset, network = weights.plan.preset, model.transformer
        model.vae.tiles = weights.plan.tiles
        on_part(Loading.ATTENTION)
        attention = deployed_attention(
            preset, network.config, settings, model.device, network.dtype
        )
        pipeline = InfiniteTalkPipeline(model, attention, prompts)
        on_part(Loading.COMPILING)
        if is_compiling(settings.compile, model.device):
            compile_pipeline(pipeline, preset, settings)
        return cls(pipeline, weights, settings)

    @property
    def preset(self) -> str:
        """What these weights are for."""
        return self._weights.plan.preset

    @property
    def weights_folder(self) -> Path:
        """Where these weights were read."""
        return self._weights.folder

    @property
    def resolutions(self) -> tuple[str, ...]:
        """Those whose windows the device's memory holds."""
        return tuple(filter(self._weights.plan.holds, PRESETS[self.preset].buckets))

    @property
    def speakers(self) -> int:
        """Voices that the weights can tell apart."""
        return self._pipeline.max_speakers

    @property
    def attention(self) -> str:
        """Name of the self-attention backend in use."""
        return self._pipeline.attention

    @property
    def gpu(self) -> str | None:
        """Name of the GPU, None on a CPU."""
        return gpu_name(self._pipeline.device)

    def run(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        *,
        labels: Mapping[str, str] = MappingProxyType({}),
        on_progress: OnProgress = lambda _: None,
        canceling: Canceling = lambda: False,
    ) -> Result:
        """Render a job, or the rest of it.

        Args:
            labels: go into the metadata of the video.

        Raises:
            InvalidField: the weights cannot tell so many voices apart, or the device's memory
                does not hold the resolution.
            Canceled: `canceling` said so; the finished windows stay in the folder.
            RenderFailed: rendering went wrong.
            StorageFull: the disk has no room.
        """
        self._check_speakers(len(folder.speakers))
        self._check_resolution(spec.resolution)
        with locked(folder), _translated(), ExitStack() as stack:
            voices = [stack.enter_context(track.open()) for track in _tracks(folder, spec)]
            frames = video_frames(spec, voices[0].samples / SPEECH_RATE)
            plan = WindowPlan(frames, spec.window, spec.motion_frames)
            scene = stack.enter_context(_open_scene(folder))
            latest = _Latest(on_progress)
            with writing_sound(folder.soundtrack(spec), folder.encoded_sound, frames):
                first = self._render(folder, spec, scene, voices, plan, latest, canceling)
            on_progress(_writing(latest.moment, plan.count))
            self._join(folder, spec, plan, labels)
        return Result(folder.result, frames, plan.count, first)

    def _check_speakers(self, count: int) -> None:
        if count > self.speakers:
            raise one_speaker_only(self.preset, self._settings)

    def _check_resolution(self, resolution: str) -> None:
        if resolution not in self.resolutions:
            there = ", ".join(self.resolutions)
            raise InvalidField(
                f"The memory here holds windows of {there}, not of {resolution}.",
                field="resolution",
            )

    def _render(
        self,
        folder: JobFolder,
        spec: GenerationSpec,
        scene: Scene,
        voices: list[SpeechFile],
        plan: WindowPlan,
        on_progress: OnProgress,
        canceling: Canceling,
    ) -> int:
        """Render what is missing and return the window it started with."""
        weights = self._pipeline.weights_fingerprint
        identity = Identity(spec.fingerprint, weights, __version__, self._label or "")
        checkpoint = _usable_checkpoint(folder, identity)
        first = checkpoint.window if checkpoint else 0
        if first < plan.count:
            windows = self._pipeline.render(
                spec,
                scene,
                voices,
                plan,
                first_window=first,
                motion=checkpoint.motion if checkpoint else None,
                on_progress=on_progress,
                canceling=canceling,
            )
            with _WindowWriter(folder, identity, self._label) as writer:
                for rendered in windows:
                    writer.write(rendered)
        return first

    def _join(
        self, folder: JobFolder, spec: GenerationSpec, plan: WindowPlan, labels: Mapping[str, str]
    ) -> None:
        fragments = [folder.fragment(index) for index in range(plan.count)]
        says = tags(spec, labels)
        join(fragments, folder.encoded_sound, folder.joined, frames=plan.frames, metadata=says)
        publish_marked(folder.joined, folder.result, plan.frames, self._sign)


class _Latest:
    """Passes the moments of a job on and keeps the last one."""

    def __init__(self, report: OnProgress) -> None:
        self._report = report
        self.moment = Progress(Stage.PREPARING)

    def __call__(self, moment: Progress) -> None:
        self.moment = moment
        self._report(moment)


def _writing(rendered: Progress, windows: int) -> Progress:
    """The last moment of a job; what was counted while it was rendered is still told."""
    return replace(
        rendered,
        stage=Stage.WRITING,
        window=windows,
        windows=windows,
        fraction=1.0,
        eta_s=None,
    )


class _WindowWriter:
    """Publishes finished windows in the background, in order, at most one behind."""

    def __init__(self, folder: JobFolder, identity: Identity, label: str | None) -> None:
        self._folder = folder
        self._identity = identity
        self._label = label
        self._executor = ThreadPoolExecutor(1, "window-writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "_WindowWriter":
        return self

    def write(self, rendered: Rendered) -> None:
        """Queue a window; raises what went wrong with the one before."""
        self._wait()
        self._pending = self._executor.submit(self._publish, rendered)

    def _publish(self, rendered: Rendered) -> None:
        index = rendered.window.index
        if self._label is not None:
            draw_label(rendered.frames, self._label)
        write_fragment(rendered.frames, self._folder.fragment(index))
        checkpoint = Checkpoint(index + 1, rendered.motion)
        save_checkpoint(self._folder.checkpoint, checkpoint, self._identity)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._executor.shutdown(wait=True)
        if kind is None:
            self._wait()


def _usable_checkpoint(folder: JobFolder, identity: Identity) -> Checkpoint | None:
    checkpoint = load_checkpoint(folder.checkpoint, identity)
    if checkpoint is None:
        return None
    if not all(folder.fragment(index).exists() for index in range(checkpoint.window)):
        log.warning("A fragment is missing: the job starts again at its first window.")
        return None
    return checkpoint


def _tracks(folder: JobFolder, spec: GenerationSpec) -> tuple[Track, ...]:
    """The voices on the time line of the video."""
    paths = [folder.speech(number) for number in folder.speakers]
    if not paths:
        raise InvalidInput(f"{folder.root.name} holds no speech.")
    if len(paths) == 2:
        return combine_speakers(paths[0], paths[1], spec.order)
    with SpeechFile(paths[0]) as voice:
        return (Track(paths[0], 0, voice.samples),)


@contextmanager
def _open_scene(folder: JobFolder) -> Iterator[Scene]:
    if folder.picture.exists():
        with Image.open(folder.picture, formats=("PNG",)) as image:
            yield Picture(np.asarray(image.convert("RGB")))
        return
    with VideoFrames(folder.video, max_megapixels=MAX_VIDEO_MEGAPIXELS) as frames:
        yield _Film(frames)


@dataclass(frozen=True, slots=True)
class _Film:
    """A video as a scene."""

    frames: VideoFrames
    is_still: bool = False

    @property
    def height(self) -> int:
        return self.frames.height

    @property
    def width(self) -> int:
        return self.frames.width

    def frame(self, index: int) -> np.ndarray:
        return self.frames.frame(index)


@contextmanager
def _translated() -> Iterator[None]:
    """A device without memory as our error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("The device ran out of memory while rendering.") from error
