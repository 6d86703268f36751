"""Prepared folders that are manifests and sizes alone: enough to choose between them."""

from pathlib import Path

from infinitetalk.weights.model_config import ModelConfig, released_config, write_model_config
from infinitetalk.weights.prepared import write_manifest


def announce(
    weights: Path,
    preset: str = "standard",
    precision: str = "bf16",
    speakers: int = 1,
    config: ModelConfig | None = None,
    name: str | None = None,
) -> Path:
    """A folder that says it holds this model."""
    folder = weights / (name or f"{preset}-{precision}-{speakers}")
    folder.mkdir(parents=True)
    write_model_config(folder, config or released_config())
    write_manifest(folder, preset, precision, speakers, "test")
    return folder
