"""Whether the files of a catalog are there and fit the networks, seen from their headers alone.

So whoever reaches the hub for the first time learns within a minute, and a few megabytes, what
fetching and preparing would run into hours later. Values are not looked at: that is the business of
the hashes, see `download.py`.
"""

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from infinitetalk.errors import SourceFileMissing, SourceForbidden, WeightsCorrupt
from infinitetalk.weights.catalog import Catalog, Part, RemoteFile, Source
from infinitetalk.weights.convert import build, float8_keys, require_fit, to_original
from infinitetalk.weights.in_parallel import in_parallel
from infinitetalk.weights.lora import sort_lora
from infinitetalk.weights.model_config import ModelConfig
from infinitetalk.weights.origin import Described, Origin, pin
from infinitetalk.weights.tensor_file import Tensors, open_tensors

log = logging.getLogger(__name__)

WORKERS = 8
TRANSFORMER, TOKENIZER = "transformer", "tokenizer"
LEAST_TOKENIZER = 1000  # bytes; what git-lfs leaves in place of a file has 130
ADAPTER = re.compile(r"audio_proj\..*|blocks\.\d+\.(audio_cross_attn|norm_x)\..*")
"""Keys of the transformer that the audio adapter holds; the base holds the others."""


class Verdict(StrEnum):
    """What was found of a file."""

    FITS = "fits"
    DIFFERS = "differs"  # in size or hash from what the catalog knows
    MISFIT = "misfit"  # its source does not make up the part
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    UNCHECKED = "unchecked"  # another file of its source cannot be had


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a source."""

    part: Part
    source: Source
    path: str
    verdict: Verdict
    note: str = ""  # why, or what else there is to say
    revision: str | None = None
    size: int | None = None  # bytes
    warnings: tuple[str, ...] = ()  # keys of a LoRA that were made for another model


@dataclass(frozen=True, slots=True)
class Report:
    """One row for every file of every source."""

    rows: tuple[Row, ...]

    @property
    def unusable(self) -> list[Part]:
        """Parts of which the source that would be taken does not fit, or that have none.

        The one that would be taken is the first with no file missing.
        """
        verdicts: dict[Part, dict[str, set[Verdict]]] = {}
        for row in self.rows:
            sources = verdicts.setdefault(row.part, {})
            sources.setdefault(row.source.name, set()).add(row.verdict)
        return [part for part, sources in verdicts.items() if _taken(sources) != {Verdict.FITS}]


def _taken(sources: Mapping[str, set[Verdict]]) -> set[Verdict]:
    complete = (found for found in sources.values() if Verdict.MISSING not in found)
    return next(complete, {Verdict.MISSING})


def check(
    parts: Sequence[Part], origin: Origin, sizes: ModelConfig, *, workers: int = WORKERS
) -> Report:
    """Look at every file of every source of the parts.

    Raises:
        ConnectionFailed: the origin cannot be reached.
    """
    network = build(TRANSFORMER, sizes.transformer, "meta").state_dict()
    original = to_original(TRANSFORMER, sizes.transformer, network)
    shapes = {key: tuple(tensor.shape) for key, tensor in original.items()}
    looking = _Look(origin, sizes, shapes)
    sources = [(part, source) for part in parts for source in part.sources]
    found = in_parallel(looking.at, sources, workers, threading.Event())
    return Report(tuple(row for rows in found for row in rows))


def resolve(catalog: Catalog, origin: Origin) -> Catalog:
    """The catalog with every revision, size and hash that the origin tells: a lock file.

    A source that cannot be had stays as it was, unless its part has no other.

    Raises:
        SourceFileMissing: no source of a part has all its files.
        SourceForbidden: the hub wants a token, or a licence accepted.
        WeightsCorrupt: a size or hash is not the one that the catalog knows.
        ConnectionFailed: the origin cannot be reached.
    """
    return replace(catalog, parts=tuple(_resolved(part, origin) for part in catalog.parts))


def _resolved(part: Part, origin: Origin) -> Part:
    sources: list[Source] = []
    failures: list[SourceFileMissing | SourceForbidden] = []
    for source in part.sources:
        try:
            found = pin(origin, source)
            sources.append(replace(found, revision=found.revision or source.revision))
        except (SourceFileMissing, SourceForbidden) as error:
            log.warning("the source %s of %s stays as it was: %s", source.name, part.name, error)
            sources.append(source)
            failures.append(error)
    if len(failures) == len(sources):
        raise failures[0]
    return replace(part, sources=tuple(sources))


@dataclass(frozen=True, slots=True)
class _Look:
    """What it takes to judge a source."""

    origin: Origin
    sizes: ModelConfig
    transformer: Mapping[str, tuple[int, ...]]  # shapes under original names

    def at(self, one: tuple[Part, Source]) -> list[Row]:
        """The files of a source one by one, then what they make up together."""
        part, source = one
        rows = [self._row(part, source, file) for file in source.files]
        if any(row.size is None for row in rows):
            return [_unchecked(row) for row in rows]
        try:
            note, warnings = self._judge(part, source, rows)
        except WeightsCorrupt as error:
            return [replace(row, verdict=Verdict.MISFIT, note=error.message) for row in rows]
        return [replace(row, note=row.note or note, warnings=warnings) for row in rows]

    def _row(self, part: Part, source: Source, file: RemoteFile) -> Row:
        try:
            found = self.origin.describe(source, file)
        except SourceFileMissing as error:
            return Row(part, source, file.path, Verdict.MISSING, error.message)
        except SourceForbidden as error:
            return Row(part, source, file.path, Verdict.FORBIDDEN, error.message)
        difference = _difference(file, found)
        verdict = Verdict.DIFFERS if difference else Verdict.FITS
        return Row(part, source, file.path, verdict, difference, found.revision, found.size)

    def _judge(
        self, part: Part, source: Source, rows: Sequence[Row]
    ) -> tuple[str, tuple[str, ...]]:
        """A note and warnings about a source that makes up its part.

        Raises:
            WeightsCorrupt: it does not.
        """
        at = replace(source, revision=rows[0].revision)
        files = [RemoteFile(row.path, row.size) for row in rows]
        if part.component == TOKENIZER:
            self._require_tokenizer(at, files[0])
            return "", ()
        with open_tensors((self.origin.open(at, file), file.path) for file in files) as tensors:
            if part.scale is None:
                self._require_fit(part, tensors)
                return _summary(tensors), ()
            lora = sort_lora(files[0].path, tensors.lazy(), part.scale, self.transformer)
            return lora.report.summary, tuple(lora.report.warnings)

    def _require_fit(self, part: Part, tensors: Tensors) -> None:
        shapes = {key: entry.shape for key, entry in tensors.entries.items()}
        if quantised := sorted(float8_keys(shapes)):
            raise WeightsCorrupt(f"It is quantised already: {quantised[0]} has a scale.")
        if part.component == TRANSFORMER:
            others = self._keys_of_other_parts(part)
            if twice := sorted(others.keys() & shapes.keys()):
                raise WeightsCorrupt(
                    f"It holds {len(twice)} keys that another part of the transformer has, such as "
                    f"{twice[0]}."
                )
            shapes |= others
        require_fit(part.component, getattr(self.sizes, part.component), shapes)

    def _keys_of_other_parts(self, part: Part) -> dict[str, tuple[int, ...]]:
        is_adapter = part.name == "audio"
        return {
            key: shape
            for key, shape in self.transformer.items()
            if bool(ADAPTER.fullmatch(key)) != is_adapter
        }

    def _require_tokenizer(self, source: Source, file: RemoteFile) -> None:
        with self.origin.open(source, file) as content:
            if (file.size or 0) < LEAST_TOKENIZER or not content.read(64).lstrip().startswith(b"{"):
                raise WeightsCorrupt(f"{file.path} is no tokenizer.")


def _unchecked(row: Row) -> Row:
    if row.size is None:
        return row
    return replace(row, verdict=Verdict.UNCHECKED, note="another file of the source is not there")


def _difference(file: RemoteFile, found: Described) -> str:
    """What is another way than the catalog has it; empty if nothing is."""
    if file.size not in (None, found.size):
        return f"{found.size} bytes, not {file.size}"
    if None not in (file.sha256, found.sha256) and file.sha256 != found.sha256:
        return f"sha256 {found.sha256}, not {file.sha256}"
    return ""


def _summary(tensors: Tensors) -> str:
    dtypes = sorted({str(entry.dtype).removeprefix("torch.") for entry in tensors.entries.values()})
    return f"{len(tensors.entries)} tensors in {' and '.join(dtypes)}"
