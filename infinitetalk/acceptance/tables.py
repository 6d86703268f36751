"""A report as tables for a terminal. Needs no torch, so it prints what another machine measured."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from infinitetalk.acceptance.report import Cell, Check, Figure, Report, Trial


def tables(report: Report) -> Iterator[Table]:
    """What was run, the figures, the attention backends, the sweep, and last the verdicts."""
    yield _subject(report)
    if report.figures:
        yield _figures(report.figures)
    if report.attention:
        yield _attention(report.attention)
    if report.sweep:
        yield _sweep(report.sweep)
    yield _checks(report.checks)


def _subject(report: Report) -> Table:
    table = Table(title="acceptance run", title_justify="left", show_header=False)
    rows = ("date", "engine", "torch", "device", "preset", "resolution", "weights", "fingerprint")
    for name in rows:
        table.add_row(name, escape(getattr(report, name)))
    return table


def _figures(figures: tuple[Figure, ...]) -> Table:
    table = Table("measured", title="figures", title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.4g}", figure.unit)
    return table


def _attention(trials: tuple[Trial, ...]) -> Table:
    table = Table("backend", title="self-attention, one call", title_justify="left")
    table.add_column("s", justify="right")
    table.add_column("relative error", justify="right")
    table.add_column("note")
    for trial in trials:
        figures = (_number(trial.seconds), _number(trial.relative_error))
        table.add_row(trial.backend, *figures, escape(trial.note))
    return table


def _sweep(cells: tuple[Cell, ...]) -> Table:
    table = Table(title="sweep", title_justify="left")
    for name in ("steps", "audio guidance", "shift", "s"):
        table.add_column(name, justify="right")
    table.add_column("video")
    for cell in cells:
        settings = (str(cell.steps), f"{cell.audio_guidance:g}", f"{cell.shift:g}")
        table.add_row(*settings, _number(cell.seconds), escape(cell.video or cell.note))
    return table


def _checks(checks: tuple[Check, ...]) -> Table:
    table = Table("check", "verdict", "detail", title="checks", title_justify="left")
    for check in checks:
        verdict = "[green]passed[/]" if check.passed else "[red]failed[/]"
        table.add_row(check.name, verdict, escape(check.detail))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
