"""The two locks, and that pyproject.toml names what the code imports.

requirements/cpu.lock is for every machine that is worked on, requirements/image.lock for the image.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = ("cpu", "image")
# PyTorch of the image wants a setuptools below 82.
DIFFERENT = {"setuptools"}
# Imported where they happen to be, or where a host brings them; triton comes with torch for GPUs,
# the last two with modal.
NOT_OURS = {"flash_attn", "sageattention", "infinitetalk", "triton", "aiohttp", "grpclib"}


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject asks for: the engine, and what these extras add."""
    added = [text for extra in extras for text in EXTRAS[extra]]
    return [Requirement(text) for text in (*PROJECT["dependencies"], *added)]


@cache
def pinned(lock: str) -> dict[str, str]:
    """Package -> version in the lock, as far as its marker holds here."""
    lines = (ROOT / f"requirements/{lock}.lock").read_text("utf-8").splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if not line.startswith("#") and line]
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in here}


def torch_version(file: str, pattern: str) -> str:
    [version] = re.findall(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE)
    return str(version)


@pytest.mark.parametrize("requirement", wanted(*EXTRAS), ids=str)
def test_the_pins_satisfy_the_project(requirement: Requirement) -> None:
    torch = torch_version("requirements/install.sh", r"^TORCH=(\S+)$")
    pins = {**pinned("cpu"), "torch": torch}
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("requirement", wanted("serve", "c2pa"), ids=str)
def test_the_pins_of_the_image_satisfy_what_is_served(requirement: Requirement) -> None:
    torch = torch_version("requirements/image.txt", r"^torch==(\S+)")
    pins = {**pinned("image"), "torch": torch}
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_image_holds_what_the_tests_ran_with() -> None:
    cpu, image = pinned("cpu"), pinned("image")
    assert {name for name in cpu.keys() & image.keys() if cpu[name] != image[name]} == DIFFERENT


@pytest.mark.parametrize("extra", ["test", "check", "loadtest", "deploy"])
def test_the_image_has_no_tool_of_the_workshop(extra: str) -> None:
    served = {"psutil", "pyyaml"}  # BentoML needs them too
    tools = {canonicalize_name(Requirement(text).name) for text in EXTRAS[extra]}
    assert not (tools - served) & set(pinned("image"))


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_leaves_torch_to_the_installer(lock: str) -> None:
    assert not {"torch", "triton"} & set(pinned(lock))
    gpu = {name for name in pinned(lock) if name.startswith(("nvidia-", "cuda-"))}
    assert gpu == {"nvidia-ml-py"}  # BentoML's; plain Python


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_host(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text("utf-8")
    assert not re.search(r"://|^-|--| @ |file:", text, re.MULTILINE)


def test_everything_imported_is_named_by_the_project() -> None:
    sources = [*(ROOT / "infinitetalk").rglob("*.py"), ROOT / "service.py"]
    imported = {module for path in sources for module in imported_by(path)}
    named = {canonicalize_name(r.name) for r in wanted("serve", "deploy", "c2pa")}
    owners = packages_distributions()
    outside = imported - sys.stdlib_module_names - NOT_OURS
    assert not {
        module
        for module in outside
        if named.isdisjoint(canonicalize_name(name) for name in owners[module])
    }


def imported_by(path: Path) -> Iterator[str]:
    """Top-level modules that the file imports anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
