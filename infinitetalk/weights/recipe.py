"""What a prepared model is made of: enough to say whether an existing one is the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infinitetalk.errors import SourceFileMissing, WeightsCorrupt, WeightsMissing
from infinitetalk.weights.convert import COMPONENTS
from infinitetalk.weights.model_config import ModelConfig, read_model_config
from infinitetalk.weights.prepared import FileEntry, Manifest, read_manifest

LAYOUT = 1  # of the prepared files; another one where the same recipe would give other bytes


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the original weights on this machine, and where it came from."""

    local: Path
    path: str  # in its repository; what messages call it
    repo: str | None = None  # owner/name; None: it is in no repository
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None

    @property
    def name(self) -> str:
        """Without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def provenance(self) -> dict[str, Any]:
        """What a manifest says of it; the file's time where nothing better tells it from others.

        Raises:
            SourceFileMissing: the file is not there.
        """
        try:
            state = self.local.stat()
        except OSError as error:
            raise SourceFileMissing(f"The weights file {self.path} is not there.") from error
        names = ("repo", "revision", "path", "sha256", "licence")
        known = {name: getattr(self, name) for name in names} | {"size": state.st_size}
        is_identified = self.revision is not None or self.sha256 is not None
        return known if is_identified else known | {"modified_ns": state.st_mtime_ns}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA and how strongly it is added."""

    file: SourceFile
    scale: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the content of a prepared folder."""

    preset: str
    precision: str  # of the transformer: bf16 or fp8
    speakers: int
    sources: Mapping[str, Sequence[SourceFile]]  # by part: base, audio, vae, ..., tokenizer
    loras: Sequence[LoraFile]  # in the order in which they are added
    sizes: ModelConfig

    def files(self, part: str) -> Sequence[SourceFile]:
        """The files of a part.

        Raises:
            SourceFileMissing: there are none.
        """
        if not self.sources.get(part):
            raise SourceFileMissing(f"No file is given for the {part} of {self.preset}.")
        return self.sources[part]

    @property
    def sentence(self) -> str:
        """For the manifest and its reader."""
        people = "one speaker" if self.speakers == 1 else f"{self.speakers} speakers"
        loras = [f"{lora.file.name} x {lora.scale:g}" for lora in self.loras]
        added = f", with {' and '.join(loras)}" if loras else ""
        return f"{self.preset} in {self.precision} for {people}{added}; layout {LAYOUT}"

    def manifest(self, files: Mapping[str, FileEntry]) -> Manifest:
        """The manifest of the folder made by this recipe."""
        parts = [
            {"part": part, **file.provenance}
            for part, files_of_part in sorted(self.sources.items())
            for file in files_of_part
        ]
        parts += [
            {"part": "lora", **lora.file.provenance, "scale": lora.scale} for lora in self.loras
        ]
        return Manifest(
            self.preset, self.precision, self.speakers, self.sentence, files, tuple(parts)
        )

    @property
    def text(self) -> str:
        """The recipe as a text: equal texts mean equal prepared files."""
        sizes = {name: asdict(getattr(self.sizes, name)) for name in COMPONENTS}
        return json.dumps({"manifest": asdict(self.manifest({})), "sizes": sizes}, indent=1)

    def is_of(self, folder: Path) -> bool:
        """Whether a folder is a prepared model made by this recipe, going by what it says."""
        try:
            manifest, sizes = read_manifest(folder), read_model_config(folder)
        except (WeightsMissing, WeightsCorrupt):
            return False
        return replace(manifest, files={}) == self.manifest({}) and sizes == self.sizes
