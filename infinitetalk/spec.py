"""What to render: presets, size buckets and the specification of one generation.

Frozen dataclasses only: no pydantic, no torch. Values are checked once, in `specify`, and trusted
afterwards. Lengths are video frames at 25 fps unless a name says seconds.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from infinitetalk.errors import InvalidField

FPS = 25  # InfiniteTalk is trained at 25 frames a second
VAE_STRIDE_TIME = 4
VAE_STRIDE_SPACE = 8
MIN_SPEECH_SECONDS = 0.2
MAX_PROMPT_CHARACTERS = 2000

BucketTable = Mapping[str, tuple[int, int]]
"""Label (height / width, rounded) -> (height, width). The label is compared, not the true ratio."""

BUCKETS_480: BucketTable = {
    "0.26": (320, 1216),
    "0.38": (384, 1024),
    "0.50": (448, 896),
    "0.67": (512, 768),
    "0.82": (576, 704),
    "1.00": (640, 640),
    "1.22": (704, 576),
    "1.50": (768, 512),
    "1.86": (832, 448),
    "2.00": (896, 448),
    "2.50": (960, 384),
    "2.83": (1088, 384),
    "3.60": (1152, 320),
    "3.80": (1216, 320),
    "4.00": (1280, 320),
}
BUCKETS_720: BucketTable = {
    "0.22": (448, 2048),
    "0.29": (512, 1792),
    "0.36": (576, 1600),
    "0.45": (640, 1408),
    "0.55": (704, 1280),
    "0.63": (768, 1216),
    "0.76": (832, 1088),
    "0.88": (896, 1024),
    "1.00": (960, 960),
    "1.14": (1024, 896),
    "1.31": (1088, 832),
    "1.50": (1152, 768),
    "1.58": (1216, 768),
    "1.82": (1280, 704),
    "1.91": (1344, 704),
    "2.20": (1408, 640),
    "2.30": (1472, 640),
    "2.67": (1536, 576),
    "2.89": (1664, 576),
    "3.62": (1856, 512),
    "3.75": (1920, 512),
}
BUCKETS_DEMO: BucketTable = {
    "0.60": (96, 160),
    "0.78": (112, 144),
    "1.00": (128, 128),
    "1.29": (144, 112),
    "1.67": (160, 96),
}
BUCKETS_TINY: BucketTable = {"0.75": (48, 64), "1.00": (48, 48), "1.33": (64, 48)}

DEFAULT_PROMPT = "A person looks into the camera and talks."
DEFAULT_NEGATIVE_PROMPT = (
    "bright tones, overexposed, static, blurred details, subtitles, still picture, overall gray, "
    "worst quality, low quality, JPEG artifacts, ugly, deformed, extra fingers, "
    "poorly drawn hands, poorly drawn face, disfigured, fused fingers, cluttered background, "
    "three legs, crowd"
)


class SpeakingOrder(StrEnum):
    """How two voices follow each other."""

    TOGETHER = "together"
    ONE_AFTER_THE_OTHER = "one-after-the-other"


@dataclass(frozen=True, slots=True)
class Box:
    """Where a speaker is: pixels of the source picture after EXIF rotation, end exclusive."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True)
class Apg:
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416)."""

    momentum: float = -0.75
    norm_threshold: float = 55.0


@dataclass(frozen=True, slots=True)
class Preset:
    """One way to run the model: which weights, how many steps, how strong the guidance."""

    name: str
    use: str
    steps: int
    max_steps: int
    text_guidance: float
    audio_guidance: float
    shift: Mapping[str, float]  # resolution -> timestep shift; the first one is the default
    buckets: Mapping[str, BucketTable]
    window: int = 81  # frames the model sees at once, 4n + 1
    motion_frames: int = 9  # frames of the previous window that the next one starts from, 4n + 1
    color_strength: float = 1.0
    is_bundled: bool = False  # its weights come with the package
    long_video_s: float | None = None  # above this the preset's identity is known to drift
    caveat: str | None = None  # what a user must know of its results

    @property
    def default_resolution(self) -> str:
        return next(iter(self.shift))


_FULL = {"480p": BUCKETS_480, "720p": BUCKETS_720}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("fast", "previews", 4, 12, 1.0, 1.0, {"480p": 5.0, "720p": 5.0}, _FULL),
        Preset(
            "standard",
            "the default on a GPU",
            8,
            40,
            1.0,
            2.0,
            {"480p": 2.0, "720p": 2.0},
            _FULL,
            long_video_s=60.0,
        ),
        Preset("best", "final quality", 40, 60, 5.0, 4.0, {"480p": 7.0, "720p": 11.0}, _FULL),
        Preset(
            "demo",
            "a small model for a laptop CPU",
            6,
            40,
            1.0,
            2.0,
            {"128p": 3.0},
            {"128p": BUCKETS_DEMO},
            window=33,
            motion_frames=5,
            is_bundled=True,
            caveat="Its weights are random until a model is trained: length and sound are right, "
            "the picture is noise.",
        ),
        Preset(
            "tiny",
            "random weights for tests",
            2,
            40,
            1.0,
            1.0,
            {"48p": 3.0},
            {"48p": BUCKETS_TINY},
            window=33,
            motion_frames=5,
            is_bundled=True,
            caveat="Its weights are random: the picture is noise.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """One generation: everything that decides the frames but the media and the weights."""

    preset: str
    resolution: str
    steps: int
    shift: float
    text_guidance: float
    audio_guidance: float
    window: int
    motion_frames: int
    color_strength: float
    prompt: str = DEFAULT_PROMPT
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    seed: int = 42
    order: SpeakingOrder = SpeakingOrder.TOGETHER
    boxes: tuple[Box, ...] = ()
    max_seconds: float | None = None
    apg: Apg | None = None
    step_cache_threshold: float = 0.0  # 0 = every step is computed
    audio_guidance_interval: tuple[int, int] | None = None  # first and last step of it, from 1 on

    @property
    def buckets(self) -> BucketTable:
        return PRESETS[self.preset].buckets[self.resolution]

    @property
    def fingerprint(self) -> str:
        """Sha256 over every field: two specs with one fingerprint ask for the same frames."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def spec_from_json(fields: Mapping[str, object]) -> GenerationSpec:
    """The inverse of `GenerationSpec.to_json`.

    Raises:
        KeyError, TypeError, ValueError: the fields are not a spec of this version.
    """
    values = dict(fields)
    values["order"] = SpeakingOrder(str(values["order"]))
    values["boxes"] = tuple(Box(**box) for box in values["boxes"])  # type: ignore[attr-defined]
    apg = values["apg"]
    values["apg"] = None if apg is None else Apg(**apg)  # type: ignore[arg-type]
    interval = values.get("audio_guidance_interval")
    values["audio_guidance_interval"] = None if interval is None else tuple(interval)  # type: ignore[arg-type]
    return GenerationSpec(**values)  # type: ignore[arg-type]


def specify(
    preset: str,
    *,
    resolution: str | None = None,
    steps: int | None = None,
    text_guidance: float | None = None,
    audio_guidance: float | None = None,
    **choices: object,
) -> GenerationSpec:
    """A checked spec from a preset and what the caller wants to change of it.

    Raises:
        InvalidField: a choice is outside what the preset allows.
    """
    chosen = _preset(preset)
    resolution = chosen.default_resolution if resolution is None else resolution
    if resolution not in chosen.shift:
        sizes = ", ".join(chosen.shift)
        raise InvalidField(
            f"The preset {preset} renders at {sizes}, not at {resolution}.", field="resolution"
        )
    spec = GenerationSpec(
        preset=preset,
        resolution=resolution,
        steps=chosen.steps if steps is None else steps,
        shift=chosen.shift[resolution],
        text_guidance=chosen.text_guidance if text_guidance is None else text_guidance,
        audio_guidance=chosen.audio_guidance if audio_guidance is None else audio_guidance,
        window=chosen.window,
        motion_frames=chosen.motion_frames,
        color_strength=chosen.color_strength,
    )
    given = {name: value for name, value in choices.items() if value is not None}
    spec = replace(spec, **given)  # type: ignore[arg-type]
    check(spec)
    return spec


def check(spec: GenerationSpec) -> None:
    """Refuse values no window could be rendered with.

    Raises:
        InvalidField: names the field, the value and the allowed range.
    """
    bounds: tuple[tuple[str, float, float], ...] = (
        ("steps", 1, _preset(spec.preset).max_steps),
        ("shift", 0.1, 20.0),
        ("text_guidance", 0.0, 20.0),
        ("audio_guidance", 0.0, 20.0),
        ("color_strength", 0.0, 1.0),
        ("step_cache_threshold", 0.0, 10.0),
        ("seed", 0, 2**63 - 1),
    )
    for field, low, high in bounds:
        value = getattr(spec, field)
        if not (math.isfinite(value) and low <= value <= high):
            raise InvalidField(
                f"{field} must be between {low} and {high}, not {value}.", field=field
            )
    _check_interval(spec)
    _check_lengths(spec)
    for field in ("prompt", "negative_prompt"):
        if len(getattr(spec, field)) > MAX_PROMPT_CHARACTERS:
            raise InvalidField(
                f"{field} is longer than {MAX_PROMPT_CHARACTERS} characters.", field=field
            )


def _preset(name: str) -> Preset:
    try:
        return PRESETS[name]
    except KeyError:
        names = ", ".join(PRESETS)
        raise InvalidField(
            f"There is no preset {name!r}; there are {names}.", field="preset"
        ) from None


def _check_interval(spec: GenerationSpec) -> None:
    if spec.audio_guidance_interval is None:
        return
    first, last = spec.audio_guidance_interval
    if not 1 <= first <= last <= spec.steps:
        raise InvalidField(
            "audio_guidance_interval must go from a first to a last step between 1 and "
            f"{spec.steps}, not from {first} to {last}.",
            field="audio_guidance_interval",
        )


def _check_lengths(spec: GenerationSpec) -> None:
    if spec.window < 5 or spec.window % VAE_STRIDE_TIME != 1:
        raise InvalidField(f"window must be 4n+1 frames, not {spec.window}.", field="window")
    if not 1 <= spec.motion_frames < spec.window:
        raise InvalidField("motion_frames must be shorter than the window.", field="motion_frames")
    limit = spec.max_seconds
    if limit is not None and not (math.isfinite(limit) and limit >= MIN_SPEECH_SECONDS):
        raise InvalidField(
            f"max_seconds must be at least {MIN_SPEECH_SECONDS}, not {limit}.", field="max_seconds"
        )
    if len(spec.boxes) not in (0, 2):
        raise InvalidField("Give no box or one box for each of two speakers.", field="boxes")
