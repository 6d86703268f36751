"""Render a video from a portrait or a video and one or two voices.

While it runs, everything is in the folder OUTPUT.job; it is gone when the video is done. A run that
was interrupted or killed continues from there with `--resume`.
"""

import argparse
import shlex
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from infinitetalk.cli.fields import add_fields
from infinitetalk.cli.interrupt import interruptible
from infinitetalk.cli.output import check_output
from infinitetalk.cli.progress_bar import ProgressBar
from infinitetalk.config import Settings, load_settings
from infinitetalk.consent import check_consent
from infinitetalk.errors import InvalidField, InvalidInput, JobBusy
from infinitetalk.jobfolder import JobFolder, create_job, locked, read_job
from infinitetalk.preset_choice import choose_preset
from infinitetalk.spec import PRESETS, GenerationSpec, SpeakingOrder, specify
from infinitetalk.weights.selection import require_weights, settings_for

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
    add("--output", type=Path, metavar="O.mp4", help="the video to write, or to replace")
    add("--resume", type=Path, metavar="DIR", help="continue an interrupted run from its folder")
    presets = ["auto", *PRESETS]
    add("--preset", choices=presets, help="which model to run (default: what fits this machine)")
    add_fields(parser)


def run(options: argparse.Namespace) -> int:
    """Render, show progress, and say where the video is."""
    settings = load_settings()
    is_new = options.resume is None
    spec, folder, output = (_new_job if is_new else _old_job)(options, settings)
    started = time.monotonic()
    try:
        result = _render(folder, spec, settings)
        shutil.move(result.path, output)
    except BaseException as error:
        _leave(folder, error, is_new)
        raise
    folder.remove()
    _tell(output, result, spec, time.monotonic() - started)
    return 0


def _old_job(
    options: argparse.Namespace, settings: Settings
) -> tuple[GenerationSpec, JobFolder, Path]:
    fixed = {"resume", "output", "debug", "run"}
    for name, value in vars(options).items():
        if name not in fixed and value not in (None, []):  # 0 is a choice too
            option = name.replace("_", "-")
            raise InvalidField(f"A resumed run goes on as it began: no --{option}.", field=name)
    folder = JobFolder(options.resume)
    spec = read_job(folder)
    voices = len(folder.speakers)
    require_weights(spec.preset, settings_for(voices, settings), voices)
    output = options.output or _output_of(options.resume)
    check_output(output, ())
    return spec, folder, output


def _new_job(
    options: argparse.Namespace, settings: Settings
) -> tuple[GenerationSpec, JobFolder, Path]:
    for name in ("image", "audio", "output"):
        if getattr(options, name) is None:
            raise InvalidField(f"--{name} is missing.", field=name)
    check_consent(options.consent, settings)
    voices = [voice for voice in (options.audio, options.audio_2) if voice is not None]
    spec = _spec(options, settings_for(len(voices), settings))
    check_output(options.output, (options.image, *voices))
    require_weights(spec.preset, settings_for(len(voices), settings), len(voices))
    folder = JobFolder(options.output.with_name(f"{options.output.name}.job"))
    if folder.job.exists():
        with locked(folder):
            raise InvalidInput(
                f"{folder.root} holds an unfinished run: go on with "
                f"{_command('--resume', folder.root)}, or delete the folder."
            )
    create_job(folder, spec, options.image, voices, settings)
    if options.consent:
        folder.consent.write_text(options.consent, "utf-8")
    return spec, folder, options.output


def _spec(options: argparse.Namespace, settings: Settings) -> GenerationSpec:
    boxes = tuple(options.box)
    if boxes and options.audio_2 is None:
        raise InvalidField("--box tells two speakers apart; it needs --audio-2.", field="boxes")
    if options.order and options.audio_2 is None:
        raise InvalidField("--order is for two speakers; it needs --audio-2.", field="order")
    return specify(
        _preset(options.preset or settings.preset, settings),
        resolution=options.resolution,
        steps=options.steps,
        text_guidance=options.text_guidance,
        audio_guidance=options.audio_guidance,
        audio_guidance_interval=options.audio_guidance_interval,
        step_cache_threshold=options.step_cache_threshold,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        seed=options.seed,
        order=SpeakingOrder(options.order) if options.order else None,
        boxes=boxes or None,
        max_seconds=options.max_seconds,
    )


def _preset(name: str, settings: Settings) -> str:
    choice = choose_preset(replace(settings, preset=name), _why_not_on_gpu)
    if choice.reason is not None:
        console.print(
            f"[bold yellow]Using the preset demo, a small stand-in model:[/] "
            f"{escape(choice.reason)}. Choose another with --preset; `infinitetalk doctor` shows "
            "what this machine can run."
        )
    return choice.preset


def _why_not_on_gpu(preset: str, settings: Settings) -> str | None:
    from infinitetalk.runner import why_not_on_gpu

    return why_not_on_gpu(preset, settings)


def _output_of(folder: Path) -> Path:
    if folder.suffix != ".job":
        raise InvalidField(
            f"Name the video: --output is needed to resume {folder}.", field="output"
        )
    return folder.with_suffix("")


def _render(folder: JobFolder, spec: GenerationSpec, settings: Settings) -> "Result":
    with console.status("Loading the model ...") as status:
        from infinitetalk.runner import Runner

        def show(network: str, done: int, total: int) -> None:
            share = f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
            status.update(f"Loading the model: {network}, {share} ...")

        chosen = settings_for(len(folder.speakers), settings)
        runner = Runner.load(spec.preset, chosen, show)
    console.print(f"Weights: {escape(str(runner.weights_folder))}")
    with ProgressBar(console) as bar, interruptible(_say_stopping) as interrupted:
        return runner.run(
            folder,
            spec,
            labels={"consent": "stated"} if folder.consent.exists() else {},
            on_progress=bar.show,
            canceling=interrupted.is_set,
        )


def _say_stopping() -> None:
    console.print("Stopping as soon as the step is done; press Ctrl-C again to stop at once.")


def _leave(folder: JobFolder, error: BaseException, is_new: bool) -> None:
    """Keep the folder of a failed run if a window of it is done, and say how to go on."""
    if isinstance(error, JobBusy):  # it is somebody else's run
        return
    if folder.checkpoint.exists():
        command = _command("--resume", folder.root)
        console.print(f"Finished windows are kept. Go on with: {escape(command)}")
    elif is_new:
        folder.remove()
        console.print("No window was finished: nothing is kept.")


def _command(option: str, value: Path) -> str:
    """A command line of ours that can be pasted."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "infinitetalk" else "infinitetalk"
    return shlex.join([program, "generate", option, str(value)])


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
