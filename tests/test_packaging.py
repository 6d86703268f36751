"""What a clone promises before any of its code runs: targets, bundled files, layering."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "infinitetalk"
TARGETS = {
    *("demo", "serve", "test", "test-ui", "test-slow", "parity", "check", "bench-cpu"),
    *("loadtest", "docs", "bento", "image", "image-test", "lock", "clean", "help"),
    *("test-modal-live", "test-schema"),
}
ASSETS = ("portrait.png", "speech.flac", "tokenizer.json", "sentences.txt", "README.md")

# Who may import whom. A unit is a module or a folder directly in infinitetalk/; the package itself
# (`infinitetalk.__version__`) is open to all.
BASE = {"errors", "config", "spec", "progress", "consent"}
PARTS = {"media", "models", "sampling", "weights", "speech", "conditioning", "prompt_cache"}
KERNELS = {"compile_cache", "deployed_attention"}
ENGINE = BASE | PARTS | KERNELS | {"pipeline", "checkpoint", "jobfolder", "disclosure", "runner"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "progress": set(),
    "config": {"errors"},
    "spec": {"errors"},
    "consent": {"config", "errors"},
    "media": BASE,
    "models": BASE,
    "sampling": {"spec", "errors", "progress"},
    "weights": BASE | {"models"},
    "speech": BASE | {"media"},
    "conditioning": BASE | {"media", "models", "sampling", "speech"},
    "prompt_cache": BASE | {"models", "weights"},
    "pipeline": BASE | PARTS,
    "compile_cache": set(),
    "deployed_attention": BASE | {"media", "models", "conditioning", "compile_cache"},
    "checkpoint": BASE | {"media"},
    "jobfolder": BASE | {"media"},
    "disclosure": BASE | {"media"},
    "runner": ENGINE - {"runner"},
    "preset_choice": BASE | {"weights"},
    "jobs": BASE | {"jobfolder", "media", "runner"},
    "serving": BASE | {"jobfolder", "media", "disclosure", "weights", "preset_choice", "jobs"},
    "acceptance": ENGINE,
    "bento": {"config", "errors"},
    "fleet": BASE
    | {"acceptance", "compile_cache", "runner", "jobs", "serving", "weights", "media", "cli"},
    "parity": ENGINE,
    "demo": ENGINE | {"parity"},
    "client": {"errors", "media"},
    "report": BASE | {"media"},
    "cli": ENGINE | {"parity", "demo", "preset_choice", "client", "acceptance", "report", "jobs"},
}
TORCH_FREE = BASE | {
    "media",
    "jobfolder",
    "disclosure",
    "report",
    "jobs",
    "serving",
    "client",
    "bento",
}
ENGINE_PROCESS = "infinitetalk.jobs.worker"  # is started, never imported
HEAVY = {"torch", "transformers", "diffusers"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def unit_of(module: str) -> str:
    """`infinitetalk.media.audio` -> `media`; the package itself -> `__init__`."""
    return [*module.split("."), "__init__"][1]


@cache
def imports_of(module: str) -> frozenset[str]:
    """Every module that `module` imports anywhere in its text, lazily or for types included."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return frozenset(name for node in ast.walk(tree) for name in _named_by(node, module))


def _named_by(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module)
        yield base
        yield from (f"{base}.{a.name}" for a in node.names if f"{base}.{a.name}" in MODULES)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if node.level == 0:
        return node.module or ""
    package = module.split(".")
    if MODULES[module].name != "__init__.py":
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def reached_from(module: str) -> set[str]:
    """The module, what it imports, and so on through our own modules; packages run first."""
    reached: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        found = imports_of(name) | parents if name in MODULES else parents
        waiting |= found - reached
    return reached


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_downward_only(module: str) -> None:
    unit = unit_of(module)
    assert unit in MAY_IMPORT, "a new module needs its row in MAY_IMPORT"
    ours = {unit_of(name) for name in imports_of(module) if name.split(".")[0] == "infinitetalk"}
    assert ours <= MAY_IMPORT[unit] | {unit, "__init__"}


@pytest.mark.parametrize("module", [name for name in MODULES if unit_of(name) in TORCH_FREE])
def test_all_but_the_engine_never_reaches_torch(module: str) -> None:
    reached = reached_from(module)
    assert module == ENGINE_PROCESS or not {*HEAVY, ENGINE_PROCESS} & reached


SERVING = [
    name for name in MODULES if unit_of(name) in {"serving", "jobs", "runner", "pipeline", "client"}
]
PICKLES = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "torch.serialization"}
LOADERS = {"torch.load", "numpy.load", "np.load", "joblib.load", "pandas.read_pickle"}


def reads_pickles(module: str) -> set[str]:
    """What in a module's text could run code from a file."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    named = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return (imports_of(module) & PICKLES) | (named & LOADERS)


@pytest.mark.parametrize("module", SERVING)
def test_nothing_that_serves_reads_pickles(module: str) -> None:
    """Neither itself nor what it reaches, the engine process with its weights included."""
    reached = reached_from(module) & MODULES.keys()
    assert {name: reads_pickles(name) for name in reached if reads_pickles(name)} == {}


def test_pickles_are_read_in_one_place() -> None:
    """And there the loader is told to take tensors alone."""
    places = [name for name in MODULES if reads_pickles(name)]
    assert places == ["infinitetalk.weights.tensor_file"]
    assert places[0] in reached_from("infinitetalk.weights.prepare")
    calls = [
        node
        for node in ast.walk(ast.parse(MODULES[places[0]].read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert calls
    for call in calls:
        assert ("weights_only", "True") in {(k.arg, ast.unparse(k.value)) for k in call.keywords}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after the statement."""
    report = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", report], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(run.stdout.split())


def test_importing_the_package_is_free() -> None:
    assert not loaded_by("import infinitetalk") & {*HEAVY, "numpy"}


def test_importing_the_media_modules_loads_no_torch() -> None:
    media = [name for name in MODULES if unit_of(name) == "media"]
    assert not loaded_by(f"import {', '.join(media)}") & HEAVY


def test_importing_the_service_loads_no_torch() -> None:
    assert not loaded_by("import service") & HEAVY


@cache
def makefile_targets() -> dict[str, str]:
    """Target -> what `make help` says about it."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.MULTILINE))


def test_make_offers_every_promised_target() -> None:
    assert set(makefile_targets()) == TARGETS


def test_make_alone_explains_the_targets() -> None:
    run = subprocess.run(["make"], check=True, capture_output=True, text=True, cwd=ROOT)
    for target, meaning in makefile_targets().items():
        assert re.search(rf"make {target} +{re.escape(meaning)}", run.stdout)


def test_ci_runs_the_tests_the_page_the_parity_and_the_checks() -> None:
    script = (ROOT / ".ci/run").read_text("utf-8")
    calls = re.findall(r"^\s*make (\S+)", script, re.MULTILINE)
    assert calls == ["test", "test-ui", "parity", "check"]
    assert "set -euo pipefail" in script


def test_the_installed_package_holds_the_page() -> None:
    shown = {path.name for path in files("infinitetalk").joinpath("serving", "ui").iterdir()}
    assert {"index.html", "style.css", "app.js", "player.js"} <= shown


@pytest.mark.parametrize("name", ASSETS)
def test_the_installed_package_holds_the_demo_assets(name: str) -> None:
    assert files("infinitetalk.demo").joinpath("assets", name).is_file()
