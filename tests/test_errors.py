"""The error tree as drawn, as coded and as promised to callers."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from infinitetalk import errors
from infinitetalk.errors import InfiniteTalkError

PACKAGE = Path(errors.__file__).parent


def drawn() -> dict[str, tuple[str | None, str]]:
    """Class -> parent and sentence, as the module's docstring draws them."""
    tree: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.fullmatch(r"    ([│├└─ ]*)(\w+)(?:  +(.+))?", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            tree[match[2]] = (path[depth - 1] if depth else None, match[3] or "")
    return tree


def coded() -> dict[str, type[InfiniteTalkError]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in members if issubclass(kind, InfiniteTalkError)}


def test_the_drawn_tree_is_the_coded_one() -> None:
    parents = {name: kind.__base__ for name, kind in coded().items()}
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: None if base is Exception else base.__name__ for name, base in parents.items() if base
    }


@pytest.mark.parametrize("name", [name for name, (parent, _) in drawn().items() if parent])
def test_the_drawing_says_what_the_class_says(name: str) -> None:
    said = (coded()[name].__doc__ or "").strip().removesuffix(".")
    assert said[0].lower() + said[1:] == drawn()[name][1][0].lower() + drawn()[name][1][1:]


def test_every_code_names_one_error() -> None:
    codes = [kind.code for kind in coded().values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("kind", "status", "exit_code"),
    [
        (errors.InvalidInput, range(400, 500), 2),
        (errors.Unavailable, range(500, 600), 3),
        (errors.RenderFailed, range(500, 600), 4),
        (errors.Canceled, range(400, 500), 130),
    ],
)
def test_a_branch_of_the_tree_has_one_kind_of_status_and_exit_code(
    kind: type[InfiniteTalkError], status: range, exit_code: int
) -> None:
    for error in coded().values():
        if issubclass(error, kind):
            assert error.status in status
            assert error.exit_code == exit_code


def test_input_that_can_never_work_is_never_worth_a_retry() -> None:
    assert not [e for e in coded().values() if issubclass(e, errors.InvalidInput) and e.retryable]


def test_an_error_carries_its_sentence_and_field() -> None:
    error = errors.InvalidField("steps must be between 1 and 40, not 0.", field="steps")
    assert (str(error), error.message, error.field) == (error.message, str(error), "steps")


def test_no_other_module_adds_to_the_tree() -> None:
    names = set(coded())
    for path in PACKAGE.rglob("*.py"):
        classes = [
            n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ClassDef)
        ]
        bases = {ast.unparse(base).split(".")[-1] for node in classes for base in node.bases}
        assert path.name == "errors.py" or not bases & names, path
