"""The folder of one job: its inputs as our own files, fragments, checkpoint and result.

    <folder>/
        job.json                 the spec; written when the inputs are complete
        lock                     held by the process that renders
        input/scene.png          the picture, upright RGB; or input/scene.video, as it was given
        input/speech_N.wav       what the model hears: 16 kHz mono
        input/sound_N            what the viewer hears: as it was given
        input/consent.txt        what `generate --consent` said
        fragments/00000.m4s ...  one for every finished window
        fragments/sound.m4a      what the viewer hears, encoded
        fragments/joined.mp4     all of it, while it is being marked
        checkpoint.safetensors   where to continue
        result.mp4

Every file appears whole or not at all. A job is taken up again from this folder alone.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from PIL import Image

from infinitetalk.config import Settings
from infinitetalk.errors import (
    FileMissing,
    InvalidField,
    InvalidInput,
    JobBusy,
    UnsupportedMedia,
)
from infinitetalk.media.audio import decode_speech
from infinitetalk.media.image import choose_bucket, load_portrait
from infinitetalk.media.probe import is_picture
from infinitetalk.media.publish import publishing
from infinitetalk.media.regions import latent_masks, region_masks
from infinitetalk.media.soundtrack import Soundtrack
from infinitetalk.media.video import check_video
from infinitetalk.spec import VAE_STRIDE_SPACE, GenerationSpec, spec_from_json

FORMAT = 1
MAX_SPEAKERS = 2
MEDIA_FIELDS = ("image", "audio", "audio_2")  # what a scene and its voices are called outside


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Names inside a job's folder."""

    root: Path

    @property
    def picture(self) -> Path:
        return self.root / "input" / "scene.png"

    @property
    def video(self) -> Path:
        return self.root / "input" / "scene.video"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.safetensors"

    @property
    def result(self) -> Path:
        return self.root / "result.mp4"

    @property
    def job(self) -> Path:
        return self.root / "job.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def speech(self, speaker: int) -> Path:
        return self.root / "input" / f"speech_{speaker}.wav"

    def sound(self, speaker: int) -> Path:
        return self.root / "input" / f"sound_{speaker}"

    def fragment(self, window: int) -> Path:
        return self.root / "fragments" / f"{window:05d}.m4s"

    @property
    def encoded_sound(self) -> Path:
        return self.root / "fragments" / "sound.m4a"

    @property
    def joined(self) -> Path:
        """The video before it is marked."""
        return self.root / "fragments" / "joined.mp4"

    @property
    def consent(self) -> Path:
        """What `generate --consent` said; the jobs of a service have it in their row."""
        return self.root / "input" / "consent.txt"

    @property
    def speakers(self) -> tuple[int, ...]:
        """Numbers of the voices that are there, from 1."""
        return tuple(n for n in range(1, MAX_SPEAKERS + 1) if self.speech(n).exists())

    def soundtrack(self, spec: GenerationSpec) -> Soundtrack:
        """What the viewer hears."""
        paths = [self.sound(n) for n in self.speakers]
        return Soundtrack(paths[0], paths[1] if len(paths) > 1 else None, spec.order)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def create_job(
    folder: JobFolder, spec: GenerationSpec, scene: Path, voices: Sequence[Path], settings: Settings
) -> None:
    """Check the media of a job and put them into its folder; on failure nothing is left.

    Args:
        scene: a picture or a video.
        voices: recordings, or videos with sound; one or two.

    Raises:
        InvalidInput: a file or a box is not what can be rendered, or the folder cannot be used;
            `field` says which: image, audio, audio_2, boxes or output.
        JobBusy: another process is at work in the folder.
        StorageFull: the disk has no room.
    """
    for field, path in zip(MEDIA_FIELDS, (scene, *voices), strict=False):
        if path.is_dir():
            raise FileMissing(f"{path} is a folder, not a file.", field=field)
    with _claimed(folder):
        with _naming(MEDIA_FIELDS[0]):
            height, width = _take_scene(folder, scene, settings)
        _check_boxes(spec, height, width, len(voices))
        for number, voice in enumerate(voices, 1):
            with _naming(MEDIA_FIELDS[number]):
                decode_speech(voice, folder.speech(number), max_seconds=settings.max_audio_seconds)
            _copy(voice, folder.sound(number))
        with publishing(folder.job) as part:
            part.write_text(json.dumps({"format": FORMAT, "spec": spec.to_json()}, indent=1))


def watchable(folder: JobFolder, is_there: Callable[[Path], bool] = Path.exists) -> int:
    """How many windows can be watched, counted from the first: none without their sound.

    It never falls while a job lives: a window that is rendered again replaces the earlier one.
    """
    if not is_there(folder.encoded_sound):
        return 0
    return next(number for number in count() if not is_there(folder.fragment(number)))


def read_job(folder: JobFolder) -> GenerationSpec:
    """The spec of a job folder.

    Raises:
        InvalidInput: the folder holds no complete job of this version.
    """
    if not folder.root.is_dir():
        raise FileMissing(f"There is no folder {folder.root}.")
    try:
        job = json.loads(folder.job.read_text())
        if job["format"] != FORMAT:
            raise InvalidInput(f"{folder.root} was written by another version.")
        return spec_from_json(job["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder.root} holds no job that could be resumed.") from error


@contextmanager
def locked(folder: JobFolder) -> Iterator[None]:
    """Hold the folder against other processes; a killed holder frees it.

    Raises:
        JobBusy: another process is at work in it.
    """
    with folder.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobBusy(f"Another process is at work in {folder.root}.") from None
        yield


@contextmanager
def _claimed(folder: JobFolder) -> Iterator[None]:
    """A folder that is new, or was left by a process that died while it filled it.

    What is there and not ours is never touched.
    """
    try:
        folder.root.mkdir(parents=True)
    except FileExistsError:
        if not folder.lock.exists():
            raise InvalidField(f"{folder.root} is in the way.", field="output") from None
    except OSError as error:
        raise InvalidField(f"{folder.root} cannot be created.", field="output") from error
    with locked(folder):
        if folder.job.exists():
            raise InvalidInput(f"{folder.root} holds an unfinished job.")
        try:
            for name in ("input", "fragments"):
                shutil.rmtree(folder.root / name, ignore_errors=True)
                (folder.root / name).mkdir()
            yield
        except BaseException:
            folder.remove()
            raise


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Tell who asked which of the files was refused: the media modules know files only."""
    try:
        yield
    except InvalidInput as error:
        error.field = error.field or field
        raise


def _check_boxes(spec: GenerationSpec, height: int, width: int, speakers: int) -> None:
    """Refuse boxes that leave the picture or what is rendered of it."""
    masks = region_masks(height, width, spec.boxes, speakers)
    if speakers > 1:
        rows, columns = choose_bucket(height, width, spec.buckets)
        latent = (rows // VAE_STRIDE_SPACE, columns // VAE_STRIDE_SPACE)
        latent_masks(masks, (rows, columns), latent)


def _take_scene(folder: JobFolder, scene: Path, settings: Settings) -> tuple[int, int]:
    """Height and width of the scene, now in the folder."""
    if is_picture(scene):
        pixels = load_portrait(scene, max_megapixels=settings.max_image_megapixels)
        with publishing(folder.picture) as part:
            Image.fromarray(pixels).save(part, format="PNG", compress_level=1)
        height, width, _ = pixels.shape
        return height, width
    try:
        info = check_video(scene, settings.max_video_megapixels)
    except UnsupportedMedia as error:
        message = f"{scene.name} is no JPEG, PNG or WebP picture and no video."
        raise UnsupportedMedia(message) from error
    _copy(scene, folder.video)
    return info.height, info.width


def _copy(source: Path, target: Path) -> None:
    with publishing(target) as part:
        shutil.copyfile(source, part)
