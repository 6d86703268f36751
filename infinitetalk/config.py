"""Settings: the one place that reads the environment.

Every `INFINITETALK_*` variable is a field of `Settings`; an unknown or unparsable one stops the
start with its name and what would be allowed. Standard library only.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from infinitetalk.errors import InvalidSetting

PREFIX = "INFINITETALK_"
DEVICES = ("auto", "cpu", "cuda", "cuda:N")


def _setting(default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"meaning": meaning, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployment can choose. A field `x` is set by the variable `INFINITETALK_X`."""

    home: Path = _setting(
        Path("~/.cache/infinitetalk"), "folder for generated weights and other things worth keeping"
    )
    weights: Path | None = _setting(None, "folder of prepared weights (default: HOME/weights)")
    preset: str = _setting(
        "auto",
        "which preset this deployment runs",
        ("auto", "fast", "standard", "best", "demo", "tiny"),
    )
    device: str = _setting("auto", "where the model runs", DEVICES)
    precision: str = _setting(
        "auto", "arithmetic of the transformer", ("auto", "float32", "bfloat16")
    )
    attention: str = _setting(
        "auto", "self-attention backend", ("auto", "sdpa", "cudnn", "flash", "sage")
    )
    max_audio_seconds: float = _setting(3600.0, "longest speech that is accepted, in seconds")
    max_image_megapixels: float = _setting(40.0, "largest picture that is decoded, in megapixels")
    max_video_megapixels: float = _setting(
        9.0, "largest video frame that is decoded, in megapixels"
    )

    @property
    def bundled_folder(self) -> Path:
        """Where the weights of `demo` and `tiny` are written; the others' may be read-only."""
        return self.home / "weights"

    @property
    def weights_folder(self) -> Path:
        return self.weights if self.weights is not None else self.home / "weights"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (`os.environ` unless another mapping is given).

    Raises:
        InvalidSetting: a variable is unknown, or its value does not parse.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + item.name.upper(): item for item in fields(Settings)}
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    for name in given:
        if name not in known:
            raise InvalidSetting(f"{name} is not a setting; there are {', '.join(known)}.")
    values = {known[name].name: _parse(name, text, known[name]) for name, text in given.items()}
    settings = Settings(**values)
    return Settings(**{**values, "home": settings.home.expanduser()})


def let_idle_threads_sleep() -> None:
    """Make OpenMP threads that wait give up their core; call before torch is loaded.

    By default they spin, which on a small machine starves whatever else runs, our own ffmpeg
    included: two renderings side by side on two cores took 1.6 times as long. A value that the
    user set is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _parse(name: str, text: str, item: "Field[Any]") -> Any:
    choices = item.metadata["choices"]
    if not text:
        raise InvalidSetting(f"{name} is empty; give it a value or unset it.")
    if choices and re.sub(r"^cuda:\d+$", "cuda:N", text) not in choices:
        raise InvalidSetting(f"{name} is {text!r}; allowed are {', '.join(choices)}.")
    if "Path" in str(item.type):
        return Path(text).expanduser()
    if item.type is not float:
        return text
    try:
        number = float(text)
    except ValueError:
        raise InvalidSetting(f"{name} is {text!r}; it must be a number.") from None
    if not 0 < number < float("inf"):
        raise InvalidSetting(f"{name} is {text!r}; it must be a positive number.")
    return number
