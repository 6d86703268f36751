"""Settings: the one place that reads the environment.

Every `INFINITETALK_*` variable is a field of `Settings`; an unknown or unparsable one stops the
start with its name and what would be allowed. Two variables of the hub's own tools are taken under
the names they have. Standard library only.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NewType, get_args, get_origin

from infinitetalk.errors import InvalidSetting

PREFIX = "INFINITETALK_"
DEVICES = ("auto", "cpu", "cuda", "cuda:N")
MODAL_GPUS = ("L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200", "none")
Token = NewType("Token", str)  # what a header of HTTP can carry: printable ASCII


def _setting(
    default: Any,
    meaning: str,
    choices: tuple[str, ...] = (),
    *,
    least: float = 0,
    most: float = float("inf"),
    is_secret: bool = False,
    is_local: bool = False,
    variable: str | None = None,
) -> Any:
    metadata = {
        "meaning": meaning,
        "choices": choices,
        "least": least,
        "most": most,
        "travels": not (is_local or is_secret),
        "variable": variable,
    }
    return field(default=default, repr=not is_secret, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment can choose. A field `x` is set by `INFINITETALK_X`, or by `variable`."""

    home: Path = _setting(
        Path("~/.cache/infinitetalk"),
        "folder for all that is worth keeping; by default prepared and downloaded weights too",
        is_local=True,
    )
    weights: Path | None = _setting(
        None, "folder of prepared weights (default: HOME/weights)", is_local=True
    )
    preset: str = _setting(
        "auto",
        "which preset this deployment runs",
        ("auto", "fast", "standard", "best", "demo", "tiny"),
    )
    device: str = _setting("auto", "where the model runs", DEVICES, is_local=True)
    precision: str = _setting(
        "auto",
        "arithmetic of the transformer; fp8 takes weights prepared in fp8, the others those in "
        "bf16, and auto what is prepared and fits",
        ("auto", "float32", "bfloat16", "fp8"),
    )
    speakers: str = _setting(
        "auto",
        "which audio adapter is taken: for one speaker or two; auto is one where it is prepared, "
        "and two for `generate --audio-2`",
        ("auto", "1", "2"),
    )
    text_encoder: str = _setting(
        "auto",
        "where the text encoder goes; auto is the first place that leaves room for the largest "
        "resolution",
        ("auto", "device", "device_fp8", "cpu"),
    )
    memory_gigabytes: float | None = _setting(
        None,
        "how much of the GPU's memory this process may take, in GiB (default: what is free)",
    )
    prompt_cache_megabytes: int = _setting(
        256,
        "how much of the disk under HOME/prompts encoded prompts may take; 0 keeps none "
        "and deletes those there",
    )
    attention: str = _setting(
        "auto", "self-attention backend", ("auto", "sdpa", "cudnn", "flash", "sage", "eight_bit")
    )
    compile: str = _setting(
        "auto",
        "fuse the transformer's blocks with a compiler; auto does so on a GPU, and goes on without "
        "where that fails",
        ("auto", "on", "off"),
    )
    max_audio_seconds: float = _setting(3600.0, "longest speech that is accepted, in seconds")
    max_image_megapixels: float = _setting(40.0, "largest picture that is decoded, in megapixels")
    max_video_megapixels: float = _setting(
        9.0, "largest video frame that is decoded, in megapixels"
    )
    data: Path | None = _setting(
        None,
        "folder of the jobs and their database, on a local disk (default: HOME/data)",
        is_local=True,
    )
    engines: int = _setting(
        1,
        "engine processes on this host, one for each GPU; 0 serves without rendering",
        is_local=True,
    )
    workers: int = _setting(1, "processes that answer HTTP", least=1, is_local=True)
    max_queue: int = _setting(1000, "how many jobs may wait; more are answered with 429", least=1)
    max_watchers: int = _setting(
        1000,
        "how many connections of one server process may wait for a job; streams of events beyond "
        "that tell the status once and ask to come back",
        least=1,
    )
    max_file_megabytes: int = _setting(512, "largest file of a request, sent or fetched", least=1)
    retention_hours: float = _setting(72.0, "how long a finished job and its files are kept")
    max_disk_gigabytes: float = _setting(
        100.0, "above this the oldest finished jobs are deleted before their time"
    )
    min_free_gigabytes: float = _setting(
        1.0, "below this much free disk no job is accepted and the service is not ready"
    )
    wait_seconds: float = _setting(600.0, "how long POST /generate waits for its job")
    stall_seconds: float = _setting(
        1800.0, "an engine that reports no progress on a job for so long is restarted"
    )
    gpu_price_per_hour: float | None = _setting(
        None, "US dollars; where it is not given, a table of Modal's prices by GPU name is used"
    )
    daily_budget_usd: float | None = _setting(
        None, "what one API key may spend in a day (UTC); without keys, all callers together"
    )
    api_keys: tuple[str, ...] = _setting(
        (),
        "keys for Authorization: Bearer, separated by commas; none = open to all",
        is_secret=True,
    )
    webhook_secret: str | None = _setting(
        None, "signs what is sent to callback_url (HMAC-SHA256)", is_secret=True
    )
    fetch_ports: tuple[int, ...] = _setting(
        (80, 443), "ports that URLs of a request may name", least=1, most=65535
    )
    fetch_allowed_hosts: tuple[str, ...] = _setting(
        (), "hosts that URLs may name although their addresses are private, separated by commas"
    )
    fetch_seconds: float = _setting(300.0, "how long fetching one URL may take")
    label: str = _setting(
        "off",
        "text that is drawn into a corner of every frame, such as AI-generated; off draws none",
    )
    require_consent: int = _setting(
        0, "whether a job must say whose consent covers the face and the voice", ("0", "1")
    )
    c2pa_certificate: str | None = _setting(
        None,
        "signs every video with Content Credentials: file with the certificate and its chain "
        "(PEM), or the PEM text itself",
        is_secret=True,
    )
    c2pa_key: str | None = _setting(
        None, "the certificate's private key: a PEM file, or the text itself", is_secret=True
    )
    c2pa_timestamp_url: str | None = _setting(
        None,
        "time-stamping authority (RFC 3161) that is asked for every signature; without one a "
        "signature ends with its certificate",
    )
    hf_endpoint: str = _setting(
        "https://huggingface.co",
        "the hub, or a mirror of it, that original weights are fetched from",
        variable="HF_ENDPOINT",
    )
    hf_token: Token | None = _setting(
        None,
        "access token of the hub, for files whose licence has to be accepted there",
        is_secret=True,
        variable="HF_TOKEN",
    )
    gpu: tuple[str, ...] = _setting(
        ("L40S",),
        "Modal: the GPU of a container; of several, separated by commas, the first that is free; "
        "none is for trying demo or tiny",
        MODAL_GPUS,
        is_local=True,
    )
    gpu_limit: int = _setting(
        10, "Modal: how many GPU containers may run at once; accounts begin with 10", least=1
    )
    gpu_min: int = _setting(
        0, "Modal: how many GPU containers stay up with nothing to do, at full price", is_local=True
    )
    gpu_spare: int = _setting(
        0, "Modal: how many GPU containers start ahead of need while jobs run", is_local=True
    )
    idle_seconds: int = _setting(
        120,
        "Modal: how long a GPU container waits for the next job before it is ended",
        least=2,
        most=3600,
        is_local=True,
    )
    attempt_hours: float = _setting(
        12.0,
        "Modal: after so long a job moves to another container, from its last window on",
        most=24.0,
        is_local=True,
    )
    start_minutes: float = _setting(
        20.0,
        "Modal: how long a GPU container may take to load the model",
        least=1.0,
        most=60.0,
        is_local=True,
    )
    bento: Path | None = _setting(
        None,
        "Modal: folder of the Bento to deploy; by default that of this checkout, built if need be",
        is_local=True,
    )
    image: str | None = _setting(
        None,
        "Modal: a pushed image of the Bento to run, name:tag, instead of one that Modal builds",
        is_local=True,
    )
    registry_secret: str | None = _setting(
        None,
        "Modal: name of the Secret that holds the login of the image's registry",
        is_local=True,
    )
    modal_secret: str | None = _setting(
        None,
        "Modal: name of a Secret whose variables every container gets: HF_TOKEN, "
        "INFINITETALK_API_KEYS, INFINITETALK_WEBHOOK_SECRET, INFINITETALK_C2PA_CERTIFICATE, "
        "INFINITETALK_C2PA_KEY",
        is_local=True,
    )

    @property
    def data_folder(self) -> Path:
        """Where jobs, their files and the database are."""
        return self.data if self.data is not None else self.home / "data"

    @property
    def prompts_folder(self) -> Path:
        """Where encoded prompts are kept."""
        return self.home / "prompts"

    @property
    def stamps_folder(self) -> Path:
        """Where it is noted that weights in a read-only folder were found right."""
        return self.home / "verified"

    @property
    def bundled_folder(self) -> Path:
        """Where the weights of `demo` and `tiny` are written; the others' may be read-only."""
        return self.home / "weights"

    @property
    def weights_folder(self) -> Path:
        return self.weights if self.weights is not None else self.home / "weights"


def variable_name(item: "Field[Any]") -> str:
    """The environment variable that sets a field."""
    return item.metadata["variable"] or PREFIX + item.name.upper()


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (`os.environ` unless another mapping is given).

    Raises:
        InvalidSetting: a variable is unknown, or its value does not parse.
    """
    environment = os.environ if environment is None else environment
    known = {variable_name(item): item for item in fields(Settings)}
    for name in environment:
        if _is_ours(name) and name not in known:
            raise InvalidSetting(f"{name} is not a setting; there are {', '.join(known)}.")
    # An empty variable of ours is a mistake; to the tools that share the others it means unset.
    given = {
        n: text for n, text in environment.items() if n in known and (text.strip() or _is_ours(n))
    }
    values = {known[name].name: _parse(name, text, known[name]) for name, text in given.items()}
    settings = Settings(**values)
    return Settings(**{**values, "home": settings.home.expanduser()})


def settings_or_exit() -> Settings:
    """Settings from the environment; what is wrong with them ends the process with one sentence."""
    try:
        return load_settings()
    except InvalidSetting as error:
        sys.exit(error.message)


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that make the same choices on another machine.

    Left out are defaults, secrets, and what holds on this machine only: its folders and devices,
    and how a deployment is made.
    """
    return {
        variable_name(item): _as_text(getattr(settings, item.name))
        for item in fields(Settings)
        if item.metadata["travels"] and getattr(settings, item.name) != item.default
    }


def let_idle_threads_sleep() -> None:
    """Make OpenMP threads that wait give up their core; call before torch is loaded.

    By default they spin, which on a small machine starves whatever else runs, our own ffmpeg
    included: two renderings side by side on two cores took 1.6 times as long. A value that the
    user set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX)


def _parse(name: str, text: str, item: "Field[Any]") -> Any:
    if not text:
        raise InvalidSetting(f"{name} is empty; give it a value or unset it.")
    if get_origin(item.type) is tuple:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:  # "$K1,$K2" with both unset must not open the service
            raise InvalidSetting(f"{name} is {text!r}, a list of nothing; unset it instead.")
        return tuple(_parse_word(name, word, item) for word in words)
    return _parse_word(name, text, item)


def _parse_word(name: str, text: str, item: "Field[Any]") -> Any:
    """One value; of a list, one of its words."""
    choices, least, most = (item.metadata[key] for key in ("choices", "least", "most"))
    if choices and re.sub(r"^cuda:\d+$", "cuda:N", text) not in choices:
        raise InvalidSetting(f"{name} is {text!r}; allowed are {', '.join(choices)}.")
    kind, *_ = get_args(item.type) or (item.type,)  # int of `int`, `int | None`, `tuple[int, ...]`
    value = _READERS[kind](name, text)
    if kind in (int, float) and value < least:
        raise InvalidSetting(f"{name} is {text!r}; it must be at least {least:g}.")
    if kind in (int, float) and value > most:
        raise InvalidSetting(f"{name} is {text!r}; it must be at most {most:g}.")
    return value


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise InvalidSetting(f"{name} is {text!r}; it must be a number.") from None
    if not 0 < number < float("inf"):
        raise InvalidSetting(f"{name} is {text!r}; it must be a positive number.")
    return number


def _count(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise InvalidSetting(f"{name} is {text!r}; it must be a whole number.")
    return int(text)


def _token(name: str, text: str) -> Token:
    """A secret: what is wrong with it is said without it."""
    token = text.strip()  # read from a file, it ends in a newline
    if not (token.isascii() and token.isprintable()):
        raise InvalidSetting(f"{name} has characters that no token has; was it copied whole?")
    return Token(token)


_READERS: dict[Any, Callable[[str, str], Any]] = {
    Path: lambda name, text: Path(text).expanduser(),
    float: _number,
    int: _count,
    str: lambda name, text: text,
    Token: _token,
}
