"""Render a video from a portrait or a video and one or two voices.

While it runs, everything is in the folder OUTPUT.job; it is gone when the video is done. A run that
was interrupted or killed continues from there with `--resume`.
"""

import argparse
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from infinitetalk.cli.progress_bar import ProgressBar
from infinitetalk.config import Settings, load_settings
from infinitetalk.errors import InvalidField, InvalidInput
from infinitetalk.jobfolder import JobFolder, create_job, read_job
from infinitetalk.spec import PRESETS, Box, GenerationSpec, SpeakingOrder, specify
from infinitetalk.weights.prepared import prepared_folders, require_weights

if TYPE_CHECKING:  # loading torch takes a second; bad input is refused before that
    from infinitetalk.runner import Result

console = Console(stderr=True, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `infinitetalk generate`."""
    add = parser.add_argument
    add("--image", type=Path, metavar="P", help="picture (JPEG, PNG, WebP) or video of the speaker")
    add(
        "--audio",
        type=Path,
        metavar="A",
        help="speech: wav, mp3, m4a, flac, ogg, or a video's sound",
    )
    add("--audio-2", type=Path, metavar="B", help="speech of a second speaker")
    add("--output", type=Path, metavar="O.mp4", help="the video to write")
    add("--resume", type=Path, metavar="DIR", help="continue an interrupted run from its folder")
    orders = [order.value for order in SpeakingOrder]
    add("--order", choices=orders, help="how two voices follow each other (default: together)")
    add(
        "--box",
        type=_box,
        action="append",
        default=[],
        metavar="T,L,B,R",
        help="where a speaker is, in pixels of the picture; once for each of two speakers",
    )
    add("--prompt", help="what the video shows")
    add("--negative-prompt", help="what it must not show (used with text guidance above 1)")
    presets = ["auto", *PRESETS]
    add("--preset", choices=presets, help="which model to run (default: what fits this machine)")
    add("--resolution", help="480p or 720p (default: the preset's)")
    add("--seed", type=int, metavar="N", help="same seed, same video (default: 42)")
    add("--steps", type=int, metavar="N", help="denoising steps (default: the preset's)")
    add("--audio-guidance", type=float, metavar="X", help="above 1, lips follow the voice closer")
    add("--text-guidance", type=float, metavar="X", help="above 1, the prompt weighs more")
    add("--max-seconds", type=float, metavar="S", help="render the first S seconds only")


def run(options: argparse.Namespace) -> int:
    """Render, show progress, and say where the video is."""
    settings = load_settings()
    is_new = options.resume is None
    spec, folder, output = (_new_job if is_new else _old_job)(options, settings)
    started = time.monotonic()
    try:
        result = _render(folder, spec, settings)
    except BaseException as error:
        _leave(folder, error, is_new)
        raise
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(result.path, output)
    folder.remove()
    _tell(output, result, spec, time.monotonic() - started)
    return 0


def _old_job(
    options: argparse.Namespace, settings: Settings
) -> tuple[GenerationSpec, JobFolder, Path]:
    folder = JobFolder(options.resume)
    spec = read_job(folder)
    output = options.output or _output_of(options.resume)
    _check_output(output)
    return spec, folder, output


def _new_job(
    options: argparse.Namespace, settings: Settings
) -> tuple[GenerationSpec, JobFolder, Path]:
    for name in ("image", "audio", "output"):
        if getattr(options, name) is None:
            raise InvalidField(f"--{name} is missing.", field=name)
    spec = _spec(options, settings)
    _check_output(options.output)
    require_weights(spec.preset, settings.weights_folder)
    folder = JobFolder(options.output.with_name(f"{options.output.name}.job"))
    if folder.job.exists():
        raise InvalidInput(
            f"{folder.root} holds an unfinished run: continue it with --resume {folder.root}, "
            "or delete the folder."
        )
    folder.remove()  # what a run left that was killed before its inputs were complete
    voices = [voice for voice in (options.audio, options.audio_2) if voice is not None]
    create_job(folder, spec, options.image, voices, settings)
    return spec, folder, options.output


def _spec(options: argparse.Namespace, settings: Settings) -> GenerationSpec:
    boxes = tuple(options.box)
    if boxes and options.audio_2 is None:
        raise InvalidField("--box tells two speakers apart; it needs --audio-2.", field="boxes")
    return specify(
        _preset(options.preset or settings.preset, settings),
        resolution=options.resolution,
        steps=options.steps,
        text_guidance=options.text_guidance,
        audio_guidance=options.audio_guidance,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        seed=options.seed,
        order=SpeakingOrder(options.order) if options.order else None,
        boxes=boxes or None,
        max_seconds=options.max_seconds,
    )


def _preset(name: str, settings: Settings) -> str:
    """`auto` is `standard` where its weights and a GPU that holds them are, else `demo`."""
    if name != "auto":
        return name
    prepared = prepared_folders(settings.weights_folder).values()
    standard = [manifest for manifest in prepared if manifest.preset == "standard"]
    reason = f"no prepared weights of the full model are in {settings.weights_folder}"
    if standard:
        from infinitetalk.runner import fits_gpu

        if any(fits_gpu(manifest, settings) for manifest in standard):
            return "standard"
        reason = "there is no GPU that holds the full model"
    console.print(
        f"[bold yellow]Using the preset demo, a small stand-in model:[/] {escape(reason)}. "
        "Choose another with --preset; `infinitetalk doctor` shows what this machine can run."
    )
    return "demo"


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".mp4":
        raise InvalidField(f"--output must end in .mp4, not {output.name}.", field="output")
    if output.is_dir():
        raise InvalidField(f"--output {output} is a folder.", field="output")


def _output_of(folder: Path) -> Path:
    if folder.suffix != ".job":
        raise InvalidField(
            f"Name the video: --output is needed to resume {folder}.", field="output"
        )
    return folder.with_suffix("")


def _render(folder: JobFolder, spec: GenerationSpec, settings: Settings) -> "Result":
    with console.status("Loading the model ..."):
        from infinitetalk.runner import Runner

        runner = Runner.load(spec.preset, settings)
    with ProgressBar(console) as bar, _interruptible() as interrupted:
        return runner.run(folder, spec, on_progress=bar.show, canceling=interrupted.is_set)


class _Interrupted:
    """Set by Ctrl-C or SIGTERM: the job ends after its step. A second Ctrl-C ends it now."""

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True


@contextmanager
def _interruptible() -> Iterator[_Interrupted]:
    handler = _Interrupted()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield handler
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def _leave(folder: JobFolder, error: BaseException, is_new: bool) -> None:
    """Keep the folder of a failed run if a window of it is done, and say how to go on."""
    if isinstance(error, InvalidInput):  # somebody else's run, or no run at all
        return
    if folder.checkpoint.exists():
        command = f"infinitetalk generate --resume {escape(str(folder.root))}"
        console.print(f"Finished windows are kept. Continue with: {command}")
    elif is_new:
        folder.remove()


def _tell(output: Path, result: "Result", spec: GenerationSpec, seconds: float) -> None:
    console.print(
        f"[bold green]{escape(str(output))}[/]  {result.duration_s:.1f} s of video, "
        f"made in {seconds:.0f} s with the preset {spec.preset}."
    )
    preset = PRESETS[spec.preset]
    if preset.caveat is not None:
        console.print(preset.caveat)
    if preset.long_video_s is not None and result.duration_s > preset.long_video_s:
        console.print(f"Faces drift above {preset.long_video_s:g} s with it; try --preset best.")


def _box(text: str) -> Box:
    try:
        top, left, bottom, right = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not T,L,B,R in whole pixels") from None
    return Box(top, left, bottom, right)
