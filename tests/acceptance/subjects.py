"""What the acceptance tests are about: a clock of their own, and a model with a NaN in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from infinitetalk.acceptance.loading import choose
from infinitetalk.config import Settings
from infinitetalk.weights.prepared import file_entry, read_manifest, seal

FRAMES = 50  # of a made video
CPU = torch.device("cpu")

MakeVideo = Callable[..., Path]


class Ticks:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


def poison(settings: Settings) -> None:
    """A NaN in the transformer of `tiny`, and a manifest by which that is right."""
    folder = choose("tiny", settings, CPU).folder
    path = folder / "transformer.safetensors"
    tensors = load_file(path)
    tensors["blocks.1.ffn.2.bias"][0] = torch.nan
    save_file(tensors, path)
    manifest = read_manifest(folder)
    seal(folder, replace(manifest, files={**manifest.files, path.name: file_entry(path)}))
