"""A process that downloads until somebody ends it; its arguments: endpoint, catalog, folder."""

import signal
import sys
from pathlib import Path

from infinitetalk.weights.catalog_file import read_catalog
from infinitetalk.weights.download import download
from infinitetalk.weights.hub import Hub


def main(endpoint: str, catalog: str, folder: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit none
    assert "torch" not in sys.modules, "downloading needs no torch"
    parts = read_catalog(Path(catalog)).needed("standard", 1)
    download(parts, Hub(endpoint), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
