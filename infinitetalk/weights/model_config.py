"""The sizes of all networks of a model, and `model.json` in a prepared folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from infinitetalk.errors import WeightsCorrupt
from infinitetalk.weights.convert import COMPONENTS

MODEL = "model.json"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of all networks of one model; each field is a config class of `infinitetalk.models`."""

    transformer: Any
    vae: Any
    text_encoder: Any
    image_encoder: Any
    audio_encoder: Any


def released_config() -> ModelConfig:
    """The sizes of the released model."""
    return ModelConfig(**{name: component.config() for name, component in COMPONENTS.items()})


def write_model_config(folder: Path, config: ModelConfig) -> None:
    values = {name: asdict(getattr(config, name)) for name in COMPONENTS}
    (folder / MODEL).write_text(json.dumps(values, indent=1))


def read_model_config(folder: Path) -> ModelConfig:
    """Sizes of the networks in a prepared folder.

    Raises:
        WeightsCorrupt: `model.json` does not describe a model of this version.
    """
    try:
        return parse_model_config(json.loads((folder / MODEL).read_text()))
    except (OSError, ValueError) as error:
        raise WeightsCorrupt(f"{MODEL} of {folder.name} is unreadable.") from error


def parse_model_config(values: Any) -> ModelConfig:
    """The content of a `model.json`.

    Raises:
        ValueError: it does not describe a model of this version.
    """
    try:
        return ModelConfig(**{name: _config(name, values[name]) for name in COMPONENTS})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("these are not the sizes of a model") from error


def _config(component: str, values: Mapping[str, Any]) -> Any:
    kind = COMPONENTS[component].config
    names = {item.name for item in fields(kind)}
    if names != values.keys():
        raise KeyError(component)
    return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
