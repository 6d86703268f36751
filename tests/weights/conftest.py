"""One fake hub for all tests that only look."""

from pathlib import Path

import pytest

from infinitetalk.weights.catalog import Catalog
from infinitetalk.weights.catalog_file import read_catalog
from tests.fake_hub import CATALOG_FILE, build


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built hub; copy it to change it."""
    folder = tmp_path_factory.mktemp("hub")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def hub_catalog(hub_folder: Path) -> Catalog:
    return read_catalog(hub_folder / CATALOG_FILE)
