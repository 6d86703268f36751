"""What kind of media a file holds, told from its bytes and from ffmpeg's own banner.

A probe is a claim of the file about itself. That a file is good is shown only by decoding it:
see `audio.decode_speech`, `video.check_video` and `image.load_portrait`.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from infinitetalk.errors import FileMissing, UnsupportedMedia
from infinitetalk.media import ffmpeg

_PICTURES = ((0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (8, b"WEBP"))
_CONTAINERS = (
    (4, b"ftyp"),  # mp4, mov, m4a, 3gp
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (4, b"free"),
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (0, b"OggS"),
    (8, b"AVI "),
    (0, b"FLV"),
    (0, b"\x30\x26\xb2\x75"),  # ASF: wmv, wma
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
)
_SOUNDS = (
    (8, b"WAVE"),
    (0, b"riff\x2e\x91\xcf\x11"),  # Wave64
    (0, b"ID3"),
    (0, b"fLaC"),
    (0, b"FORM"),  # AIFF
    (0, b".snd"),
    (0, b"caff"),
    (0, b"#!AMR"),
)
_MPEG_AUDIO = tuple((0, bytes((0xFF, second))) for second in range(0xE2, 0x100))  # mp3, ADTS

_INPUT = re.compile(r"Input #0, (\S+), from ")
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_STREAM = re.compile(r"^  Stream #0:\d+\S*: (Video|Audio): (\w+)(.*)$")
_SIZE = re.compile(r", (\d+)x(\d+)\b")
_FPS = re.compile(r", ([\d.]+k?) fps\b")
_PIXEL_ASPECT = re.compile(r"\bSAR (\d+):(\d+)")
_ROTATION = re.compile(r"^ +display ?matrix: rotation of (-?[\d.]+) degrees", re.IGNORECASE)
_RATE = re.compile(r", (\d+) Hz, ([^,]+)")

_LAYOUTS = {"mono": 1, "stereo": 2, "downmix": 2, "binaural": 2, "quad": 4, "hexagonal": 6}
_LAYOUTS |= {"octagonal": 8, "cube": 8, "hexadecagonal": 16}


@dataclass(frozen=True, slots=True)
class VideoStream:
    """The first moving-picture track; sizes in pixels as stored, before rotation."""

    width: int
    height: int
    fps: float | None
    codec: str
    rotation: float = 0.0  # degrees, counter-clockwise, by the display matrix
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel over its height

    @property
    def display_size(self) -> tuple[int, int]:
        """(height, width) as a player shows it, with square pixels."""
        aspect = self.pixel_aspect
        width = round(self.width * aspect) if aspect > 1 else self.width
        height = round(self.height / aspect) if aspect < 1 else self.height
        lies_on_its_side = abs(abs(self.rotation) % 180 - 90) < 1
        return (width, height) if lies_on_its_side else (height, width)


@dataclass(frozen=True, slots=True)
class AudioStream:
    """The first sound track."""

    codec: str
    sample_rate: int  # Hz
    channels: int


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a container says it holds."""

    container: str
    duration_s: float | None
    video: VideoStream | None
    audio: AudioStream | None


def probe(path: Path) -> MediaInfo:
    """The first video and the first audio track of a file; cover art is no video.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
        UnsupportedMedia: it is no video or sound container we take.
    """
    if sniff_container(path) is None:
        raise UnsupportedMedia(f"{path.name} is neither a video nor a sound file.")
    banner = ffmpeg.banner(path)
    if banner is None:
        raise UnsupportedMedia(f"{path.name} cannot be opened as video or sound.")
    return _parse(banner)


def is_picture(path: Path) -> bool:
    """Whether the file starts like a JPEG, PNG or WebP.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
    """
    return _starts_with(head(path), _PICTURES)


def sniff_container(path: Path) -> Literal["container", "sound"] | None:
    """Whether the file starts like a container of any tracks, of sound only, or like neither.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
    """
    first = head(path)
    if _starts_with(first, _CONTAINERS) or first[::188] == b"GG":  # MPEG transport stream packets
        return "container"
    return "sound" if _starts_with(first, _SOUNDS + _MPEG_AUDIO) else None


def head(path: Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        FileMissing: there is no such file, or it cannot be read.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for its other end
            raise FileMissing(f"There is no file {path.name}.")
        with path.open("rb") as file:
            return file.read(189)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileMissing(f"{path.name} cannot be read.") from error


def _starts_with(first: bytes, table: tuple[tuple[int, bytes], ...]) -> bool:
    return any(first[at : at + len(magic)] == magic for at, magic in table)


def _parse(banner: str) -> MediaInfo:
    opened = _INPUT.match(banner)
    assert opened is not None, "a banner starts with its input line"
    video: VideoStream | None = None
    audio: AudioStream | None = None
    inside_video = False
    # Tags are indented deeper than the lines that matter, so that no tag can pose as a stream.
    for line in banner.split("\n"):
        if stream := _STREAM.match(line):
            kind, codec, rest = stream.groups()
            inside_video = kind == "Video" and video is None and "(attached pic)" not in rest
            if inside_video:
                video = _video(codec, rest)
            elif kind == "Audio" and audio is None:
                audio = _audio(codec, rest)
        elif inside_video and video is not None and (turn := _ROTATION.match(line)):
            video = replace(video, rotation=float(turn[1]))
    return MediaInfo(opened[1].split(",")[0], _duration(banner), video, audio)


def _duration(banner: str) -> float | None:
    found = _DURATION.search(banner)
    if found is None:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _video(codec: str, rest: str) -> VideoStream | None:
    size = _SIZE.search(rest)
    if size is None:
        return None
    fps = _FPS.search(rest)
    aspects = [Fraction(int(a), int(b)) for a, b in _PIXEL_ASPECT.findall(rest) if int(a) * int(b)]
    return VideoStream(
        width=int(size[1]),
        height=int(size[2]),
        fps=float(fps[1].replace("k", "e3")) if fps else None,
        codec=codec,
        # The container's word comes last and is the one ffmpeg follows.
        pixel_aspect=aspects[-1] if aspects else Fraction(1),
    )


def _audio(codec: str, rest: str) -> AudioStream | None:
    found = _RATE.search(rest)
    return AudioStream(codec, int(found[1]), _channels(found[2].strip())) if found else None


def _channels(layout: str) -> int:
    """5.1(side) -> 6, 7.1.4 -> 12, "3 channels" -> 3, stereo -> 2."""
    name = re.split(r"[ (]", layout)[0]
    if name in _LAYOUTS:
        return _LAYOUTS[name]
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    if layout.startswith("ambisonic"):
        return (int(layout.split()[1]) + 1) ** 2
    return sum(numbers) or 1
