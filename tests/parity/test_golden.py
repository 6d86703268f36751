"""The thinned golden set in tests/data: every stored number is reproduced, and each one counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinitetalk.parity.__main__ import main, run_case
from infinitetalk.parity.case import Check
from tests.data.thin import thin

DATA = Path(__file__).parents[1] / "data"
CPU = torch.device("cpu")

# Checks of each case: fewer mean that something stored is no longer looked at.
CHECKS = {
    "audio_windowing": 86,
    "buckets": 58,
    "clip": 2,
    "color": 2,
    "dit_single": 17,
    "lora": 38,
    "pipeline_single": 42,
    "schedule": 36,
    "t5": 5,
    "teacache": 36,
    "wav2vec": 8,
    "manifests": 10,
}


def folder_of(case: str) -> Path:
    return DATA / case if case == "manifests" else DATA / f"case_{case}"


def failures(folder: Path) -> set[str]:
    return {c.output for c in run_case(folder, CPU, torch.float32) if not c.passed}


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a case beside a link to the weights that it may share."""

    def make(case: str) -> Path:
        folder = tmp_path / f"case_{case}"
        (tmp_path / "case_dit_single").symlink_to(DATA / "case_dit_single")
        folder.unlink(missing_ok=True)
        shutil.copytree(DATA / f"case_{case}", folder)
        return folder

    return make


def edit(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def edit_info(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    info = json.loads((folder / "case.json").read_text())
    change(info)
    (folder / "case.json").write_text(json.dumps(info))


def keep_run(folder: Path, run: str) -> None:
    edit_info(folder, lambda info: info.update(runs={run: info["runs"][run]}))  # type: ignore[index]


def test_every_case_of_the_set_is_known_here() -> None:
    folders = {path.name.removeprefix("case_") for path in DATA.glob("case_*")} | {"manifests"}
    assert folders == set(CHECKS)


def files_of(golden: Path) -> dict[str, Path]:
    paths = [*golden.glob("case_*/*"), *golden.glob("manifests/*")]
    return {str(path.relative_to(golden)): path for path in paths}


def test_the_set_is_what_its_script_writes(tmp_path: Path) -> None:
    thin(DATA, tmp_path)
    here, written = files_of(DATA), files_of(tmp_path)
    assert here.keys() == written.keys()
    assert all(path.read_bytes() == written[name].read_bytes() for name, path in here.items())


def test_the_set_stays_small() -> None:
    assert sum(path.stat().st_size for path in files_of(DATA).values()) < 25e6


@pytest.mark.parametrize("case", CHECKS)
def test_every_stored_number_is_reproduced(case: str) -> None:
    checks = run_case(folder_of(case), CPU, torch.float32)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == CHECKS[case]
    assert all(check.limit is not None for check in checks)


@pytest.mark.parametrize("case", [case for case in CHECKS if case != "manifests"])
def test_one_wrong_value_in_any_output_is_seen(case: str, copy: Callable[[str], Path]) -> None:
    def spoil(outputs: dict[str, Tensor]) -> None:
        for tensor in outputs.values():
            first = tensor.view(-1)[0]
            first += 0.05 * (1 + first.abs()) if tensor.is_floating_point() else 3

    folder = copy(case)
    edit(folder / "outputs.safetensors", spoil)
    assert failures(folder) >= set(load_file(folder / "outputs.safetensors"))


@pytest.mark.parametrize(
    ("case", "key"),
    [
        ("clip", "visual.transformer.1.attn.to_qkv.weight"),
        ("dit_single", "blocks.1.cross_attn.k_img.weight"),
        ("lora", "patch_embedding.weight"),
        ("pipeline_single", "vae.decoder.conv1.weight"),
        ("t5", "blocks.2.ffn.gate.0.weight"),
        ("wav2vec", "encoder.layers.0.attention.v_proj.weight"),
    ],
)
def test_one_wrong_weight_is_seen(case: str, key: str, copy: Callable[[str], Path]) -> None:
    def spoil(weights: dict[str, Tensor]) -> None:
        weights[key].view(-1)[0] += 2

    folder = copy(case)
    edit(folder / "weights.safetensors", spoil)
    if case == "pipeline_single":
        keep_run(folder, "maxframes_cut")
    assert failures(folder)


def test_a_shape_that_differs_from_the_manifest_is_seen(tmp_path: Path) -> None:
    shutil.copytree(DATA / "manifests", tmp_path / "manifests")
    path = tmp_path / "manifests" / "wan21_vae.json"
    values = json.loads(path.read_text())
    first = next(iter(values["keys"]))
    values["keys"][first][0][0] += 1
    path.write_text(json.dumps(values))
    assert failures(tmp_path / "manifests") == {f"vae ({len(values['keys'])} keys)"}


# What the command itself says.


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """A set of one small case."""
    shutil.copytree(DATA / "case_schedule", tmp_path / "set" / "case_schedule")
    return tmp_path / "set"


def test_a_good_set_prints_a_line_a_case_and_exits_with_zero(
    lone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(lone)]) == 0
    line, last = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == ["schedule", "ok", "36", "checks;"]
    assert last == "1 of 1 cases passed (float32 on cpu)"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: edit_info(f, lambda i: i.update(case="dreams")),
            "unknown case or output 'dreams'",
        ),
        (lambda f: (f / "outputs.safetensors").unlink(), "No such file"),
        (lambda f: (f / "case.json").unlink(), "No such file"),
        (lambda f: (f / "outputs.safetensors").write_bytes(b"x" * 99), "Error"),
        (lambda f: edit(f / "outputs.safetensors", dict.clear), "nothing to compare"),
        (
            lambda f: edit(
                f / "outputs.safetensors", lambda o: o["euler_cfg3"].fill_(float("nan"))
            ),
            "euler_cfg3 is off by nan",
        ),
        (
            lambda f: edit(
                f / "outputs.safetensors", lambda o: o.update(euler_cfg3=torch.zeros(2))
            ),
            "shape",
        ),
    ],
    ids=["unknown kind", "no outputs", "no case.json", "broken file", "empty", "NaN", "shape"],
)
def test_a_bad_case_fails_with_its_reason_and_the_others_still_run(
    lone: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], said: str
) -> None:
    shutil.copytree(lone / "case_schedule", lone / "case_bad")
    spoil(lone / "case_bad")
    assert main([str(lone)]) == 1
    out = capsys.readouterr().out
    assert "bad              FAILED: " in out
    assert said in out
    assert "1 of 2 cases passed" in out


def test_an_empty_folder_is_not_a_success(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2


def test_one_case_can_be_chosen(lone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(DATA / "case_color", lone / "case_color")
    assert main([str(lone), "--case", "color"]) == 0
    assert "1 of 1 cases" in capsys.readouterr().out
    assert main([str(lone), "--case", "sound"]) == 2


def test_the_window_loop_is_checked_in_float32_only(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy("pipeline_single")
    keep_run(folder, "maxframes_cut")
    assert main([str(folder.parent), "--dtype", "bfloat16", "--case", "pipeline_single"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["pipeline_single", "float32", "only"]


def test_predictions_have_a_limit_in_bfloat16_and_intermediates_have_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(DATA), "--dtype", "bfloat16", "--case", "dit_single"]) == 0
    assert "ok  5 checks" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [None, 0.0, 1.0, float("inf")])
def test_nan_never_passes(limit: float | None) -> None:
    assert not Check("output", float("nan"), limit).passed


@pytest.mark.parametrize(
    ("error", "limit", "passed"),
    [(0.0, 0.0, True), (1e-9, 0.0, False), (1.0, 1.0, True), (9.0, None, True)],
)
def test_a_check_passes_up_to_its_limit(error: float, limit: float | None, passed: bool) -> None:
    assert Check("output", error, limit).passed == passed
