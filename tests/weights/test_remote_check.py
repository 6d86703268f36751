"""Headers compared with networks: everything fits, or it is said what does not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from infinitetalk.errors import ConnectionFailed, SourceFileMissing, WeightsCorrupt
from infinitetalk.weights.catalog import Catalog, Part, RemoteFile
from infinitetalk.weights.hub import Hub
from infinitetalk.weights.model_config import released_config
from infinitetalk.weights.origin import LocalFolder
from infinitetalk.weights.remote_check import Report, Row, Verdict, check, resolve
from infinitetalk.weights.synthetic import model_config
from tests.fake_hub import FakeHub, Fault, build_hollow

TINY = model_config("tiny")
GONE = {"X-Error-Code": "EntryNotFound"}
BASE = "14B_bf16.safetensors"


def part_of(catalog: Catalog, name: str, preset: str = "standard") -> Part:
    return next(part for part in catalog.needed(preset, 1) if part.name == name)


def alone(part: Part) -> Part:
    """The part with its best source only, of which nothing is known."""
    source = part.sources[0]
    files = tuple(RemoteFile(file.path) for file in source.files)
    return replace(part, sources=(replace(source, files=files),))


def verdicts(report: Report) -> dict[str, Verdict]:
    return {row.path: row.verdict for row in report.rows}


def test_every_file_of_every_source_fits(hub_folder: Path, hub_catalog: Catalog) -> None:
    with FakeHub(hub_folder) as hub:
        report = check(hub_catalog.parts, Hub(hub.endpoint), TINY)
    sources = [source for part in hub_catalog.parts for source in part.sources]
    assert [row.path for row in report.rows] == [file.path for s in sources for file in s.files]
    assert {row.verdict for row in report.rows} == {Verdict.FITS}
    assert report.unusable == []
    for row in report.rows:
        assert row.size == (hub_folder / row.source.repo / row.path).stat().st_size
        assert row.revision == row.source.revision or row.source.revision is None


def test_a_row_says_what_a_file_holds(hub_folder: Path, hub_catalog: Catalog) -> None:
    report = check(hub_catalog.parts, LocalFolder(hub_folder), TINY)
    notes = {row.path.rpartition("/")[2]: row.note for row in report.rows}
    assert notes["Wan2.1_VAE.pth"].endswith("tensors in float32")
    assert "keys used" in notes["Wan2.1_I2V_14B_FusionX_LoRA.safetensors"]
    assert "alpha has no effect" in notes["Wan2.1_I2V_14B_FusionX_LoRA.safetensors"]


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Catalog]]:
    """All files in their released sizes, full of nothing."""
    folder = tmp_path_factory.mktemp("hollow")
    yield folder, build_hollow(folder)
    for path in folder.rglob("*"):  # nobody is to copy 125 GB of nothing
        if path.is_file():
            path.unlink()


def test_the_released_sizes_are_checked_with_a_few_megabytes(hollow: tuple[Path, Catalog]) -> None:
    folder, catalog = hollow
    with FakeHub(folder) as hub:
        report = check(catalog.parts, Hub(hub.endpoint), released_config())
    total = sum(row.size or 0 for row in report.rows)
    assert {row.verdict for row in report.rows} == {Verdict.FITS}
    assert total > 100e9
    assert hub.served() < total / 2000
    assert len([asked for asked in hub.asked if asked.method == "HEAD"]) == len(report.rows)
    assert len([asked for asked in hub.asked if asked.sent]) < 1.5 * len(report.rows)


Edit = Callable[[dict[str, Tensor]], object]
FIRST = "blocks.0.self_attn.q.weight"
ADAPTED = "blocks.0.audio_cross_attn.proj.weight"


def rename(tensors: dict[str, Tensor], old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("base", lambda t: t.pop(FIRST), f"1 missing ({FIRST})"),
        ("base", lambda t: rename(t, FIRST, "x.y"), "1 not known (x.y)"),
        ("base", lambda t: t.update({FIRST: t[FIRST][:3].clone()}), f"{FIRST} is [3, 64]"),
        ("base", lambda t: t.update({ADAPTED: torch.ones(1)}), f"another part of the .* {ADAPTED}"),
        ("base", lambda t: t.update({f"{FIRST}_scale": torch.ones(64)}), "quantised already"),
        ("audio", lambda t: t.update({FIRST: torch.ones(1)}), f"another part of the .* {FIRST}"),
        ("audio", lambda t: t.pop(ADAPTED), f"1 missing ({ADAPTED})"),
        ("vae", lambda t: t.pop("conv1.weight"), "1 missing (conv1.weight)"),
        ("text_encoder", lambda t: t.update({"lm_head": torch.ones(1)}), "1 not known (lm_head)"),
        ("image_encoder", lambda t: t.pop("visual.pre_norm.bias"), "1 missing"),
        ("audio_encoder", lambda t: t.update({"ctc.weight": torch.ones(1)}), "1 not known"),
        ("lora", lambda t: [rename(t, k, f"unet.{k}") for k in [*t]], "Nothing of the LoRA"),
    ],
)
def test_a_file_of_something_else_is_told_from_its_header(
    name: str, edit: Edit, words: str, hub_folder: Path, hub_catalog: Catalog, tmp_path: Path
) -> None:
    part = alone(part_of(hub_catalog, name))
    row = _row_of_edited(part, edit, hub_folder, tmp_path)
    assert row.verdict == Verdict.MISFIT
    assert all(word in row.note for word in words.split(" .* ")), row.note


def _row_of_edited(part: Part, edit: Edit, hub_folder: Path, folder: Path) -> Row:
    """What is found of a part of one file after an edit."""
    path = Path(part.sources[0].repo, part.sources[0].files[0].path)
    is_safe = path.suffix == ".safetensors"
    tensors = load_file(hub_folder / path) if is_safe else torch.load(hub_folder / path)
    edit(tensors)
    (folder / path).parent.mkdir(parents=True)
    save_file(tensors, folder / path) if is_safe else torch.save(tensors, folder / path)
    report = check([part], LocalFolder(folder), TINY)
    assert report.unusable == ([part] if report.rows[0].verdict != Verdict.FITS else [])
    return report.rows[0]


def test_keys_of_a_lora_for_another_model_are_warned_of(
    hub_folder: Path, hub_catalog: Catalog, tmp_path: Path
) -> None:
    key = "diffusion_model.patch_embedding.diff"
    part = alone(part_of(hub_catalog, "lora", "fast"))
    row = _row_of_edited(
        part, lambda t: t.update({key: t[key][:, :16].clone()}), hub_folder, tmp_path
    )
    assert row.verdict == Verdict.FITS
    (warning,) = row.warnings
    assert warning.startswith(f"{key}: shape [64, 16, ")


@pytest.mark.parametrize("keep", [0, 4, 1000, -1], ids=lambda n: f"{n} bytes")
@pytest.mark.parametrize("name", ["base", "vae"])
def test_a_file_that_was_cut_off_is_unreadable(
    name: str, keep: int, hub_folder: Path, hub_catalog: Catalog, tmp_path: Path
) -> None:
    part = alone(part_of(hub_catalog, name))
    path = Path(part.sources[0].repo, part.sources[0].files[0].path)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes((hub_folder / path).read_bytes()[:keep])
    (row,) = check([part], LocalFolder(tmp_path), TINY).rows
    assert row.verdict == Verdict.MISFIT
    assert "is unreadable" in row.note


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", Verdict.MISFIT),
        (b"<html>" * 1000, Verdict.MISFIT),
        (b"{}", Verdict.MISFIT),
        (b'{"version": "1.0",' + b" " * 1000 + b"}", Verdict.FITS),
    ],
    ids=["pointer", "page", "too small", "plausible"],
)
def test_a_tokenizer_has_to_look_like_one(
    content: bytes, verdict: Verdict, hub_catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    part = part_of(hub_catalog, "tokenizer")
    (row,) = check([alone(part)], LocalFolder(tmp_path), TINY).rows
    assert row.verdict == verdict


def test_a_missing_shard_is_named_and_the_next_source_counts(
    hub_folder: Path, hub_catalog: Catalog
) -> None:
    part = part_of(hub_catalog, "base")
    shards_first = replace(part, sources=part.sources[::-1])
    with FakeHub(hub_folder, Fault("00003-of-00007", status=404, headers=GONE)) as hub:
        report = check([shards_first], Hub(hub.endpoint), TINY)
    *shards, single = report.rows
    third = shards.pop(2)
    assert third.verdict == Verdict.MISSING
    assert "00003-of-00007.safetensors of Wan-AI" in third.note
    assert {row.verdict for row in shards} == {Verdict.UNCHECKED}
    assert single.verdict == Verdict.FITS
    assert report.unusable == []


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault(BASE, status=403, headers={"X-Error-Code": "GatedRepo"}), Verdict.FORBIDDEN),
        (Fault("resolve", times=99, status=404, headers=GONE), Verdict.MISSING),
    ],
    ids=["forbidden", "nowhere"],
)
def test_a_part_that_cannot_be_had_is_unusable(
    fault: Fault, verdict: Verdict, hub_folder: Path, hub_catalog: Catalog
) -> None:
    part = part_of(hub_catalog, "base")
    with FakeHub(hub_folder, replace(fault)) as hub:
        report = check([part], Hub(hub.endpoint), TINY)
    assert report.rows[0].verdict == verdict
    assert report.unusable == [part]


@pytest.mark.parametrize(
    ("known", "words"),
    [({"size": 7}, "bytes, not 7"), ({"sha256": "f" * 64}, f", not {'f' * 64}")],
    ids=["size", "hash"],
)
def test_another_file_than_the_catalogs_differs_although_it_fits(
    known: dict[str, object], words: str, hub_folder: Path, hub_catalog: Catalog
) -> None:
    part = alone(part_of(hub_catalog, "vae"))
    source = part.sources[0]
    files = (replace(source.files[0], **known),)  # type: ignore[arg-type]
    with FakeHub(hub_folder) as hub:
        part = replace(part, sources=(replace(source, files=files),))
        report = check([part], Hub(hub.endpoint), TINY)
    assert report.rows[0].verdict == Verdict.DIFFERS
    assert report.rows[0].note.endswith(words)
    assert report.unusable == [part]


def test_a_hub_out_of_reach_is_no_verdict(hub_folder: Path, hub_catalog: Catalog) -> None:
    with FakeHub(hub_folder, Fault("/", times=999, status=503)) as hub:
        origin = Hub(hub.endpoint, sleep=lambda _: None)
        with pytest.raises(ConnectionFailed):
            check(hub_catalog.parts, origin, TINY)


def test_resolving_pins_everything_and_changes_nothing_else(
    hub_folder: Path, hub_catalog: Catalog
) -> None:
    with FakeHub(hub_folder) as hub:
        resolved = resolve(hub_catalog, Hub(hub.endpoint))
        listed = {(one.repo, one.commit): one for one in hub.snapshots}
    for part, before in zip(resolved.parts, hub_catalog.parts, strict=True):
        for source, unpinned in zip(part.sources, before.sources, strict=True):
            files = {file.path: file for file in listed[source.repo, source.revision or ""].files}
            for file in source.files:
                assert (file.size, file.sha256) == (files[file.path].size, files[file.path].sha256)
            known = replace(source, revision=unpinned.revision, files=unpinned.files)
            assert known == unpinned
        assert replace(part, sources=before.sources) == before
    assert resolved.sizes == hub_catalog.sizes


def test_resolving_once_more_gives_the_same(hub_folder: Path, hub_catalog: Catalog) -> None:
    with FakeHub(hub_folder) as hub:
        resolved = resolve(hub_catalog, Hub(hub.endpoint))
        assert resolve(resolved, Hub(hub.endpoint)) == resolved
    assert resolve(resolved, LocalFolder(hub_folder)) == resolved


def test_resolving_refuses_another_file_than_the_pinned_one(
    hub_folder: Path, hub_catalog: Catalog
) -> None:
    part = part_of(hub_catalog, "vae")
    file = RemoteFile("Wan2.1_VAE.pth", 507_609_880)
    known = replace(part, sources=(replace(part.sources[0], files=(file,)),))
    size = (hub_folder / part.sources[0].repo / file.path).stat().st_size
    with FakeHub(hub_folder) as hub, pytest.raises(WeightsCorrupt) as refused:
        resolve(Catalog((known,)), Hub(hub.endpoint))
    assert f"{size} there, 507609880 here" in refused.value.message


def test_a_source_that_is_gone_stays_as_it_was_unless_it_is_the_last(
    hub_folder: Path, hub_catalog: Catalog
) -> None:
    part = part_of(hub_catalog, "base")
    with FakeHub(hub_folder, Fault(BASE, times=2, status=404, headers=GONE)) as hub:
        (resolved,) = resolve(Catalog((part,)), Hub(hub.endpoint)).parts
        assert resolved.sources[0] == part.sources[0]
        assert all(file.size for file in resolved.sources[1].files)
        with pytest.raises(SourceFileMissing, match=BASE):
            resolve(Catalog((replace(part, sources=part.sources[:1]),)), Hub(hub.endpoint))
