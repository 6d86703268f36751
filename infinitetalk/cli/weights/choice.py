"""Which model is meant and where its original files are: options that several commands share."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infinitetalk.config import Settings
from infinitetalk.errors import InvalidField, InvalidSetting
from infinitetalk.spec import PRESETS
from infinitetalk.weights.catalog import CATALOG, Catalog, Part, with_sources
from infinitetalk.weights.catalog_file import read_catalog
from infinitetalk.weights.hub import Hub
from infinitetalk.weights.origin import LocalFolder, Origin
from infinitetalk.weights.storage import SOURCES

if TYPE_CHECKING:  # loading torch takes a second; wrong options are refused before that
    from infinitetalk.weights.model_config import ModelConfig

FULL = [preset.name for preset in PRESETS.values() if not preset.is_bundled]


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, the parts it is made of, and where they come from."""

    preset: str
    speakers: int
    catalog: Catalog
    origin: Origin
    downloads: Path  # where original files are brought to

    @classmethod
    def of(cls, options: argparse.Namespace, settings: Settings) -> Self:
        """What the options say.

        Raises:
            InvalidField, InvalidSetting: one of them makes no sense.
        """
        catalog = CATALOG if options.catalog is None else read_catalog(options.catalog)
        catalog = with_sources(catalog, dict(options.source))
        downloads = settings.weights_folder / SOURCES
        origin = _origin(options.from_folder, settings)
        return cls(options.preset, options.speakers, catalog, origin, downloads)

    @property
    def sizes(self) -> "ModelConfig":
        """Of the networks.

        Raises:
            InvalidSetting: those of the catalog are of no use.
        """
        from infinitetalk.weights.model_config import parse_model_config, released_config

        if self.catalog.sizes is None:
            return released_config()
        try:
            return parse_model_config(self.catalog.sizes)
        except ValueError as error:
            raise InvalidSetting(f"The catalog is of no use: {error}.") from error

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.catalog.needed(self.preset, self.speakers)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The options that `Choice.of` reads."""
    add = parser.add_argument
    add("--preset", choices=FULL, default="standard", help="(default: standard)")
    add("--speakers", type=int, choices=(1, 2), default=1, help="voices in a video (default: 1)")
    add(
        "--from",
        dest="from_folder",
        type=Path,
        metavar="DIR",
        help="take the original files from this folder, not from the hub",
    )
    add(
        "--source",
        type=_assignment,
        action="append",
        default=[],
        metavar="PART=NAME",
        help="where a part comes from, e.g. base=official for the float32 shards",
    )
    add("--catalog", type=Path, metavar="FILE", help="a catalog as `weights check --resolve` wrote")


def _origin(folder: Path | None, settings: Settings) -> Origin:
    if folder is None:
        return Hub(settings.hf_endpoint, settings.hf_token)
    if not folder.is_dir():
        raise InvalidField(f"--from {folder} is no folder.", field="from")
    return LocalFolder(folder)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=NAME")
    return name, value
