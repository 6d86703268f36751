"""docs/deploy-modal.md says what modal_deploy.py, the settings and Modal's own commands say.

Not here: whether any of it works at Modal; the page lists what never ran there.
"""

import ast
import re
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import click
import pytest
from modal.cli.entry_point import entrypoint_cli

from benchmarks.hardware import Container
from benchmarks.job_cost import forwards
from docs.make_reference import raised
from infinitetalk.acceptance.sweep import GRIDS
from infinitetalk.cli import parser
from infinitetalk.config import Settings, variable_name
from infinitetalk.fleet.gateway import TEND_S
from infinitetalk.jobs.modal_queue import LET_GO_S
from infinitetalk.jobs.pricing import price_per_second
from infinitetalk.jobs.retention import REMEMBER_S
from infinitetalk.serving.app import create_app
from infinitetalk.serving.backend import Backend
from infinitetalk.serving.events import STREAM_S
from infinitetalk.spec import PRESETS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "deploy-modal.md").read_text("utf-8")
DEPLOYMENT = ast.parse((ROOT / "modal_deploy.py").read_text("utf-8"))
FUNCTIONS = {node.name: node for node in DEPLOYMENT.body if isinstance(node, ast.FunctionDef)}
METRICS = (ROOT / "infinitetalk" / "serving" / "metrics.py").read_text("utf-8")
SETTINGS = {variable_name(item): item for item in fields(Settings)}
GATEWAY = Container(1, 2)
L40S_PER_HOUR = price_per_second("L40S", Settings()) * 3600
BENTOML = {"/metrics", "/generate/submit", "/generate/status", "/generate/get"}


def number(name: str) -> float:
    """A number that modal_deploy.py gives a name."""
    [found] = re.findall(rf"^{name} = (\d+)", ast.unparse(DEPLOYMENT), re.MULTILINE)
    return float(found)


def commands(program: str) -> list[list[str]]:
    """The words after `.venv/bin/PROGRAM` in every example of a shell on the page."""
    shown = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    lines = shown.replace("\\\n", " ").splitlines()
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words[1:] for words in parts if words and words[0] == f".venv/bin/{program}"]


def flags(words: Sequence[str]) -> set[str]:
    return {word for word in words if word.startswith("-")}


def runs() -> list[tuple[list[str], str, list[str]]]:
    """What the page runs: the words before the file, the function, the words for it."""
    found = []
    for name, *words in commands("modal"):
        if name == "run":
            [at] = [i for i, word in enumerate(words) if word.startswith("modal_deploy.py")]
            function = words[at].partition("::")[2] or "main"  # Modal's choice: the entrypoint
            found.append((words[:at], function, words[at + 1 :]))
    return found


def modal_command(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command of Modal's that the words call, and the words that are left for it."""
    command, rest = entrypoint_cli, list(words)
    context = click.Context(entrypoint_cli)
    while isinstance(command, click.Group) and rest[0] in command.list_commands(context):
        found = command.get_command(context, rest.pop(0))
        assert found is not None
        command = found
    assert not isinstance(command, click.Group) or command.name == "run", words
    return command, rest


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_setting_on_the_page_exists() -> None:
    assert set(re.findall(r"\bINFINITETALK_[A-Z_]+\b", PAGE)) <= set(SETTINGS)


def test_every_setting_of_modal_is_on_the_page() -> None:
    of_modal = {name for name, item in SETTINGS.items() if "Modal:" in item.metadata["meaning"]}
    assert "INFINITETALK_GPU_LIMIT" in of_modal
    assert {name for name in of_modal if name not in PAGE} == set()


@pytest.mark.parametrize(
    ("name", "default"), re.findall(r"`(INFINITETALK_[A-Z_]+)` \((\d+)\)", PAGE)
)
def test_defaults_are_those_of_the_settings(name: str, default: str) -> None:
    assert SETTINGS[name].default == float(default)


def test_every_function_on_the_page_is_one_of_the_deployment() -> None:
    assert set(re.findall(r"modal_deploy\.py::(\w+)", PAGE)) <= set(FUNCTIONS)
    assert {function for _, function, _ in runs()} == {"prepare_weights", "accept", "main"}


@pytest.mark.parametrize(("function", "words"), [run[1:] for run in runs()])
def test_functions_are_given_what_they_take(function: str, words: list[str]) -> None:
    taken = FUNCTIONS[function].args
    known = [f"--{argument.arg.replace('_', '-')}" for argument in taken.args]
    required = known[: len(known) - len(taken.defaults)]
    assert set(required) <= flags(words) <= set(known)


@pytest.mark.parametrize(
    ("function", "flag"),
    [
        *(("prepare_weights", flag) for flag in ("precision bf16", "speakers 2", "keep-sources")),
        ("accept", "sweep"),
    ],
)
def test_flags_in_the_text_are_those_of_the_function(function: str, flag: str) -> None:
    taken = {argument.arg.replace("_", "-") for argument in FUNCTIONS[function].args.args}
    assert f"`--{flag}`" in PAGE
    assert flag.split()[0] in taken


@pytest.mark.parametrize("words", commands("modal"), ids=" ".join)
def test_commands_of_modal_exist_and_take_their_flags(words: list[str]) -> None:
    command, rest = modal_command(words)
    given = [before for before, _, after in runs() if after == rest[len(before) + 1 :]] or [rest]
    assert flags(given[0]) <= {flag for one in command.params for flag in one.opts}


def test_the_command_line_takes_what_it_is_given() -> None:
    [words] = commands("infinitetalk")
    assert [name for name, _ in parser().parse_args(words).header] == ["Modal-Key", "Modal-Secret"]


def test_every_request_carries_the_token_to_a_route_that_exists() -> None:
    requests = re.findall(r"^curl .*", PAGE.replace("\\\n", " "), re.MULTILINE)
    asked = {path for line in requests for path in re.findall(r"\$URL(/[a-z/0-9]+)", line)}
    routes = {getattr(route, "path", "") for route in create_app(Backend(Settings())).routes}
    assert {"/submit", "/result"} < asked <= routes | BENTOML
    for line in requests:
        assert '-H "Modal-Key: $KEY" -H "Modal-Secret: $SECRET"' in line


@pytest.mark.parametrize("metric", sorted(set(re.findall(r"`infinitetalk_(\w+)`", PAGE))))
def test_every_metric_on_the_page_exists(metric: str) -> None:
    name = metric.removesuffix("_total")
    assert f'"{name}"' in METRICS or f"}}{name}" in METRICS


def test_every_error_code_on_the_page_exists() -> None:
    named = set(re.findall(r"(?:the code|or|and|,|503|is|with) `([a-z]+(?:_[a-z]+)+)`", PAGE))
    assert {"worker_lost", "weights_missing", "store_busy"} <= named
    shown = {"queue_position", "eta_s", "gpu_seconds", "cost_usd", "prepare_weights"}
    assert named - shown <= {kind.code for kind in raised()}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (LET_GO_S, "has not let go after {:g} s"),
        (TEND_S, "every {:g} s while a gateway runs"),
        (STREAM_S, "A stream of events ends after {:g} s"),
        (number("WAIT_SECONDS"), "waits for {:g} s at"),
        (number("GATEWAY_WATCHERS"), "One gateway container keeps {:g} of"),
        (REMEMBER_S / 86400, "410 for {:g} days"),
        (Settings().max_file_megabytes, "{:g} MB a file"),
        (GATEWAY.price_per_second * 86400, "1 core and 2 GiB, ${:.2f}"),
        (L40S_PER_HOUR, "of which ${:.2f} is the GPU"),
    ],
)
def test_figures_are_those_of_the_code(value: float, sentence: str) -> None:
    assert sentence.format(value) in " ".join(PAGE.split())


def test_a_container_that_stays_up_costs_what_it_reserves() -> None:
    [found] = re.findall(r"(\d+) cores and (\d+) GiB is \$([\d.]+) an hour", PAGE)
    cores, gibibytes, dollars = map(float, found)
    source = ast.unparse(DEPLOYMENT)
    assert f"'cpu': {cores}," in source
    assert f"'memory': {gibibytes:g} * 1024," in source
    around = Container(cores, gibibytes).price_per_second * 3600
    assert dollars == round(L40S_PER_HOUR + around, 2)


@pytest.mark.parametrize("preset", ["standard", "best"])
def test_a_sweep_takes_so_many_forwards(preset: str) -> None:
    grid, spec = GRIDS[preset], PRESETS[preset]
    cells = [(steps, audio) for steps, _ in grid.rows for audio in grid.audio_guidance]
    count = sum(forwards(replace(spec, steps=n, audio_guidance=audio)) for n, audio in cells)
    assert re.search(rf"\b{count} (forwards )?for `{preset}`", PAGE)


@pytest.mark.parametrize(
    "page", ["deploy-modal.md", "deploy-anywhere.md", "cost.md", "../README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    here = DOCS / page
    links = re.findall(r"\]\((?!https://)([^)]+)\)", here.read_text("utf-8"))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = here.parent / path if path else here
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
