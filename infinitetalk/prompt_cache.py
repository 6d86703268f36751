"""Encoded prompts on disk: a prompt that was encoded before never touches the text encoder.

    <folder>/<key>.safetensors      key: sha256 over the cleaned prompt and all that decides the
                                    embedding's bits: weights, tokenizer, sizes, device, arithmetic

Bounded in size, the least recently used go first; where the settings keep none, those there are
deleted. Any number of processes may share the folder: entries appear whole, and one that is damaged
is removed and encoded again. A disk that cannot be written costs the cache and never a job.
"""

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from infinitetalk.config import Settings
from infinitetalk.models.text_encoder import clean_prompt
from infinitetalk.weights.load import Model
from infinitetalk.weights.prepared import TOKENIZER, weights_file

_MEGABYTE = 1_000_000
log = logging.getLogger(__name__)

Encode = Callable[[str], Tensor]
"""A prompt to its embedding, 1 l c."""


@dataclass(frozen=True, slots=True)
class PromptCache:
    """The embeddings of one text encoder."""

    folder: Path
    max_bytes: int
    encoder: str  # two encoders of one name give the same bits

    @classmethod
    def of(cls, model: Model, settings: Settings) -> Self | None:
        """The cache of a loaded model; where the settings keep none, None, and an empty folder."""
        size = settings.prompt_cache_megabytes * _MEGABYTE
        if size:
            return cls(settings.prompts_folder, size, encoder_name(model))
        _clear(settings.prompts_folder)
        return None

    def embedding(self, prompt: str, encode: Encode) -> Tensor:
        """What `encode` makes of a prompt, from the disk where it is there."""
        path = self._path(prompt)
        embedding = _read(path)
        if embedding is None:
            embedding = encode(prompt)
            self._keep(path, embedding)
        return embedding

    def _path(self, prompt: str) -> Path:
        text = json.dumps([clean_prompt(prompt), self.encoder])
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"

    def _keep(self, path: Path, embedding: Tensor) -> None:
        try:
            _write(path, embedding)
            _evict(self.folder, self.max_bytes)
        except OSError as error:
            log.warning("a prompt cannot be kept: %s", type(error).__name__)


def encoder_name(model: Model) -> str:
    """Everything but the prompt that decides an embedding."""
    encoder = model.text_encoder
    tensors = encoder.state_dict().values()
    device = next(encoder.parameters()).device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    files = (weights_file("text_encoder"), TOKENIZER)
    facts = (
        *(model.manifest.files[name].sha256 for name in files),
        repr(encoder.config),
        *(kind, torch.__version__, *sorted({str(tensor.dtype) for tensor in tensors})),
    )
    return " ".join(facts)


def _read(path: Path) -> Tensor | None:
    """An entry, now the most recently used; a damaged one is removed."""
    try:
        tensors = load(path.read_bytes())
        embedding = tensors["embedding"]
        if not torch.equal(tensors["sha256"], _digest(embedding)):
            raise ValueError(path.name)
        os.utime(path)
        return embedding
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError):
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None


def _write(path: Path, embedding: Tensor) -> None:
    """Whole or not at all, whoever else writes the same."""
    embedding = embedding.cpu().contiguous()
    data = save({"embedding": embedding, "sha256": _digest(embedding)})
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _digest(embedding: Tensor) -> Tensor:
    data = embedding.contiguous().view(torch.uint8).numpy().tobytes()
    return torch.frombuffer(bytearray(hashlib.sha256(data).digest()), dtype=torch.uint8)


def _clear(folder: Path) -> None:
    try:
        _evict(folder, 0)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("kept prompts cannot be deleted: %s", type(error).__name__)


def _evict(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used files, those of killed writers too, down to the bound."""
    total = 0
    for _, size, path in sorted(_files(folder), reverse=True):
        if total + size > max_bytes:
            _remove(path)
        else:
            total += size


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When it was used last, bytes and path of every file; what else lies there is not ours."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            state = path.lstat()
            if stat.S_ISREG(state.st_mode):
                yield state.st_mtime, state.st_size, path


def _remove(path: Path) -> None:
    """One that stays must not keep the others."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a kept prompt cannot be deleted: %s", type(error).__name__)
