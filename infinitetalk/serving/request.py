"""What a caller asks for: the fields of one request, checked, and the spec they become.

The wall between strangers and us: pydantic is used here and nowhere else. The bounds are the widest
that any preset allows; `spec.specify` holds those of the preset that this deployment runs. The
media themselves are not looked at here.
"""

import hashlib
import json
import secrets
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from infinitetalk.consent import MAX_CONSENT_CHARACTERS
from infinitetalk.errors import InvalidField
from infinitetalk.jobfolder import MEDIA_FIELDS
from infinitetalk.spec import (
    MAX_PROMPT_CHARACTERS,
    MIN_SPEECH_SECONDS,
    PRESETS,
    Box,
    GenerationSpec,
    SpeakingOrder,
    specify,
)

FREE_TEXT = frozenset({"prompt", "negative_prompt"})

# Text may arrive decomposed: no script in use needs more than three characters for one. Sorting the
# accents of a single letter takes quadratic time (30 s for 200,000), so it is bounded before that.
_MAX_DECOMPOSED = 3 * MAX_PROMPT_CHARACTERS
_SEEDS = 2**31
_BOXES = "must be two boxes, [[top, left, bottom, right], ...], in whole pixels"
_INTERVAL = "must be two whole numbers, [first step, last step]"
_LISTS = {"boxes": _BOXES, "audio_guidance_interval": _INTERVAL}

# What pydantic calls a problem -> what we say after the name of the field.
_SENTENCES = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text",
    "string_unicode": "holds characters that are no Unicode text",
    "string_too_long": "is longer than {max_length} characters",
    "string_pattern_mismatch": "may hold letters, digits, - and _ only",
    "enum": "must be {expected}",
    "value_error": "{error}",
}


def _no_truth(value: object) -> object:
    if isinstance(value, bool):  # pydantic takes true for 1
        raise ValueError("must be a number, not true or false")
    return value


def _composed(text: str) -> str:
    """NFC, so that the same letters are the same prompt however they were typed."""
    if "\0" in text:
        raise ValueError("must not hold NUL characters")
    text = unicodedata.normalize("NFC", text)
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"is longer than {MAX_PROMPT_CHARACTERS} characters")
    return text


def _name_bounds(schema: dict[str, Any]) -> None:
    """JSON Schema's names for bounds; pydantic keeps its own where a validator runs before them."""
    fields = schema["properties"].values()
    for kind in (kind for field in fields for kind in (field, *field.get("anyOf", ()))):
        for ours, theirs in (("ge", "minimum"), ("le", "maximum")):
            if ours in kind:
                kind[theirs] = kind.pop(ours)


def _json_list(value: object) -> object:
    """A form has no lists: there it is the text of one."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise ValueError("must be a list") from None


_Text = Annotated[str, Field(max_length=_MAX_DECOMPOSED), AfterValidator(_composed)]
_Consent = Annotated[str, Field(max_length=MAX_CONSENT_CHARACTERS), AfterValidator(str.strip)]
_Name = Annotated[str, Field(max_length=40, pattern="^[0-9A-Za-z_-]*$")]
_Whole = Annotated[int, BeforeValidator(_no_truth)]
_Real = Annotated[float, BeforeValidator(_no_truth)]
_Boxes = Annotated[
    list[tuple[int, int, int, int]], Field(max_length=2), BeforeValidator(_json_list)
]
_Interval = Annotated[list[_Whole], Field(min_length=2, max_length=2), BeforeValidator(_json_list)]
"""A list: BentoML's clients read no schema of a tuple."""


class GenerateRequest(BaseModel):
    """Every field of a request that is not a file. What is absent is the preset's choice."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra=_name_bounds,
    )

    prompt: _Text | None = Field(None, description="What the video shows.")
    negative_prompt: _Text | None = Field(
        None, description="What it must not show; counts when text_guidance is above 1."
    )
    seed: _Whole | None = Field(
        None, ge=0, le=2**63 - 1, description="Same seed, same video; a random one if absent."
    )
    resolution: _Name | None = Field(None, description="480p or 720p; demo has 128p, tiny 48p.")
    steps: _Whole | None = Field(
        None,
        ge=1,
        le=max(preset.max_steps for preset in PRESETS.values()),
        description="Denoising steps.",
    )
    text_guidance: _Real | None = Field(
        None, ge=0, le=20, description="Above 1 the prompt weighs more."
    )
    audio_guidance: _Real | None = Field(
        None, ge=0, le=20, description="Above 1 the lips follow the voice closer."
    )
    audio_guidance_interval: _Interval | None = Field(
        None,
        description="First and last step, counted from 1, with audio guidance; the others take a "
        "forward less. All steps if absent.",
    )
    step_cache_threshold: _Real | None = Field(
        None,
        ge=0,
        le=10,
        description="Above 0, steps that would change little are left out; they are counted as "
        "skipped_steps.",
    )
    max_seconds: _Real | None = Field(
        None, ge=MIN_SPEECH_SECONDS, description="Render the first seconds only."
    )
    preset: _Name | None = Field(
        None, description="The preset of this deployment; any other is refused."
    )
    order: SpeakingOrder | None = Field(None, description="How two voices follow each other.")
    boxes: _Boxes | None = Field(
        None,
        description="Where each of two speakers is: [[top, left, bottom, right], ...] in pixels of "
        "the upright picture.",
    )
    consent: _Consent | None = Field(
        None,
        description="Whose consent covers the face and the voice, or where it is recorded: text "
        f"of at most {MAX_CONSENT_CHARACTERS} characters, kept with the job until it is erased.",
    )
    callback_url: str | None = Field(None, description="Told by POST when the job has ended.")
    output_url: str | None = Field(None, description="Presigned URL; the video is PUT there.")
    image_url: str | None = Field(None, description="Picture or video, instead of image.")
    audio_url: str | None = Field(None, description="Speech, instead of audio.")
    audio_2_url: str | None = Field(None, description="A second voice, instead of audio_2.")

    def source_url(self, field: str) -> str | None:
        """Where the file of this name is to be fetched from, if it was not sent."""
        url: str | None = getattr(self, f"{field}_url")
        return url


def parse_request(values: Mapping[str, object]) -> GenerateRequest:
    """The request that these fields make; None is as good as absent.

    Raises:
        InvalidField: the first field that is unknown, or not what it must be.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name in given:
        if name in MEDIA_FIELDS:
            raise InvalidField(f"{name} must be a file; its URL goes into {name}_url.", field=name)
        if name not in GenerateRequest.model_fields:
            raise unknown_field(name)
    try:
        return GenerateRequest.model_validate(given)
    except ValidationError as error:
        # Not chained: pydantic's own text is of no use to anybody here.
        raise _invalid(error) from None


def unknown_field(name: str) -> InvalidField:
    """The refusal of a field that does not exist."""
    known = ", ".join((*MEDIA_FIELDS, *GenerateRequest.model_fields))
    return InvalidField(f"There is no field '{shown(name)}'; there are {known}.", field=shown(name))


def shown(name: str) -> str:
    """A stranger's name for a field as it may stand in a message: short, and plain ASCII."""
    return name[:40].encode("unicode_escape").decode()


def check_sources(request: GenerateRequest, files: Collection[str]) -> None:
    """Refuse a request without picture or speech, and what contradicts itself.

    Raises:
        InvalidField: names the file, or the field that needs a second voice.
    """
    linked = [name for name in MEDIA_FIELDS if request.source_url(name) is not None]
    for name in linked:
        if name in files:
            raise InvalidField(f"Give {name} or {name}_url, not both.", field=name)
    present = {*files, *linked}
    for name in ("image", "audio"):
        if name not in present:
            raise InvalidField(f"{name} is missing: send a file, or {name}_url.", field=name)
    for name in ("order", "boxes"):
        if getattr(request, name) and "audio_2" not in present:
            raise InvalidField(f"{name} is for two speakers; it needs audio_2.", field=name)


def fresh_seed() -> int:
    """A seed nobody chose, short enough to be read out and sent again."""
    return secrets.randbelow(_SEEDS)


def to_spec(
    request: GenerateRequest, preset: str, seeds: Callable[[], int] = fresh_seed
) -> GenerationSpec:
    """What to render with the preset that this deployment runs.

    Raises:
        InvalidField: another preset is wanted, or a value lies outside what this one allows.
    """
    if request.preset not in (None, preset):
        raise InvalidField(
            f"This deployment runs the preset {preset} and no other; leave the field out.",
            field="preset",
        )
    return specify(
        preset,
        resolution=request.resolution,
        steps=request.steps,
        text_guidance=request.text_guidance,
        audio_guidance=request.audio_guidance,
        audio_guidance_interval=_steps(request),
        step_cache_threshold=request.step_cache_threshold,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=seeds() if request.seed is None else request.seed,
        order=request.order,
        boxes=None if request.boxes is None else tuple(Box(*box) for box in request.boxes),
        max_seconds=request.max_seconds,
    )


def _steps(request: GenerateRequest) -> tuple[int, int] | None:
    """First and last step with audio guidance."""
    if request.audio_guidance_interval is None:
        return None
    first, last = request.audio_guidance_interval
    return first, last


def fingerprint(request: GenerateRequest, digests: Mapping[str, str]) -> str:
    """Sha256 of what was asked for: equal for equal fields and files, however they were sent.

    `digests` are those of the files that were sent; of the others the URL counts.
    """
    fields = request.model_dump(mode="json", exclude_none=True)
    canonical = json.dumps({"fields": fields, "files": dict(digests)}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _invalid(error: ValidationError) -> InvalidField:
    """The first problem as a sentence that repeats nothing of what was sent."""
    problem, *_ = error.errors(include_url=False, include_input=False)
    field = str(problem["loc"][0])
    context: dict[str, Any] = problem.get("ctx", {})
    says = _LISTS.get(field) or _SENTENCES.get(problem["type"], "is not valid")
    return InvalidField(f"{field} {says.format(**context)}.", field=field)
