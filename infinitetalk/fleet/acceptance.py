"""The acceptance run on a container of the fleet: what it printed is kept on the Volume as well.

/acceptance/<GPU and versions>/<date>/report.json, clip.mp4, sweep.png ...
"""

import time
from pathlib import Path

import modal
from rich.console import Console

from infinitetalk.acceptance.report import Report, to_json
from infinitetalk.acceptance.run import Plan, accept
from infinitetalk.acceptance.tables import tables
from infinitetalk.compile_cache import cache_name
from infinitetalk.config import Settings
from infinitetalk.errors import AcceptanceFailed
from infinitetalk.fleet.compiled import restore_compiled, save_compiled
from infinitetalk.jobs.modal_files import VolumeFiles
from infinitetalk.jobs.pricing import price_per_second
from infinitetalk.runner import choose_device, gpu_name


def accept_here(
    plan: Plan,
    settings: Settings,
    outputs: modal.Volume,
    caches: modal.Volume,
    output: Path,
    *,
    started: float,
) -> None:
    """Run, print, keep the report and what was compiled.

    Args:
        output: an empty folder for the videos and the report.
        started: when this process did, by `time.monotonic`.

    Raises:
        AcceptanceFailed: a check failed; the message names it.
    """
    console = Console(width=120, highlight=False)
    device = choose_device(settings.device)
    restore_compiled(caches, settings.home, device)
    report = accept(
        plan,
        settings,
        output,
        started=started,
        price_per_second=price_per_second(gpu_name(device), settings),
        on_check=lambda check: console.print(f"{check.name}: {check.detail}", markup=False),
    )
    for table in tables(report):
        console.print(table)
    (output / "report.json").write_text(to_json(report))
    place = f"/acceptance/{cache_name(device)}/{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    VolumeFiles(outputs).put({f"{place}/{path.name}": path for path in output.iterdir()})
    console.print(f"The report is on the outputs Volume in {place}.")
    require_passed(report)
    name, files = save_compiled(caches, settings.home, device)
    console.print(f"{files} compiled files are kept for machines of this kind as {name}.")


def require_passed(report: Report) -> None:
    """
    Raises:
        AcceptanceFailed: a check failed; the message names it.
    """
    if report.failed:
        names = ", ".join(check.name for check in report.failed)
        raise AcceptanceFailed(f"The acceptance run failed: {names}.")
