"""RESULTS.md: one section for every run, with date, machine, versions and command."""

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")


def record(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str) -> None:
    """Print a table and append it to RESULTS.md."""
    lines = [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rows)]
    table = "\n".join(lines)
    print(table)
    command = " ".join(["python -m", _module(), *sys.argv[1:]])
    section = f"\n## {title}\n\n{_where()}, `{command}`\n\n{table}\n\n{note}\n"
    with RESULTS.open("a") as file:
        file.write(section)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _module() -> str:
    return ".".join(Path(sys.argv[0]).with_suffix("").parts[-2:])


def _where() -> str:
    device = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{today}, {device}, Python {platform.python_version()}, torch {torch.__version__}"
