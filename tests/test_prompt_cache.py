"""Encoded prompts on disk: what counts as the same, what damage and crowds do, what it saves."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.conditioning import Picture
from infinitetalk.config import Settings
from infinitetalk.media.audio import SpeechFile
from infinitetalk.pipeline import InfiniteTalkPipeline
from infinitetalk.prompt_cache import PromptCache, encoder_name
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import GenerationSpec, specify
from infinitetalk.weights.load import Model, load_model
from infinitetalk.weights.prepared import TOKENIZER, FileEntry, weights_file
from infinitetalk.weights.text_placement import TextPlacement

PLENTY = 10**6
PICTURE = Picture(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))


class Encoder:
    """Makes an embedding of a prompt's bytes, and counts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> Tensor:
        self.prompts.append(prompt)
        return torch.tensor([[*prompt.encode()]]).to(torch.bfloat16)[..., None]


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


@pytest.fixture
def cache(tmp_path: Path) -> PromptCache:
    return PromptCache(tmp_path / "prompts", PLENTY, "encoder")


def entries(cache: PromptCache) -> list[Path]:
    return sorted(cache.folder.iterdir(), key=lambda path: path.stat().st_mtime)


def test_a_prompt_is_encoded_once(cache: PromptCache, encode: Encoder) -> None:
    first, second = (cache.embedding("a wish", encode) for _ in range(2))
    assert encode.prompts == ["a wish"]
    assert torch.equal(first, second)
    assert first.dtype == second.dtype == torch.bfloat16
    assert [path.suffix for path in entries(cache)] == [".safetensors"]


@pytest.mark.parametrize(
    ("prompt", "encoder", "is_known"),
    [
        ("a wish", "encoder", True),
        ("  a\n wish ", "encoder", True),  # the tokenizer never sees the difference
        ("a &amp;amp; b", "encoder", False),
        ("A wish", "encoder", False),
        ("", "encoder", False),
        ("a wish", "another", False),
    ],
)
def test_the_same_cleaned_prompt_of_the_same_encoder_is_known(
    cache: PromptCache, encode: Encoder, prompt: str, encoder: str, is_known: bool
) -> None:
    cache.embedding("a wish", encode)
    replace(cache, encoder=encoder).embedding(prompt, encode)
    assert len(encode.prompts) == (1 if is_known else 2)


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: flip(data, -40 % len(data)),
        lambda data: flip(data, len(data) - 1),
        lambda data: b"not tensors at all",
        lambda data: data.replace(b"embedding", b"imbedding"),
    ],
    ids=["empty", "cut", "flipped", "flipped at the end", "no tensors", "another name"],
)
def test_a_damaged_entry_is_encoded_again_and_replaced(
    cache: PromptCache, encode: Encoder, damage: Callable[[bytes], bytes]
) -> None:
    whole = cache.embedding("a wish", encode)
    (entry,) = entries(cache)
    good = entry.read_bytes()
    entry.write_bytes(damage(good))
    assert torch.equal(cache.embedding("a wish", encode), whole)
    assert len(encode.prompts) == 2
    assert entry.read_bytes() == good


def test_a_damaged_entry_is_removed_even_where_nothing_can_be_encoded(cache: PromptCache) -> None:
    cache.embedding("a wish", Encoder())
    (entry,) = entries(cache)
    entry.write_bytes(b"broken")
    with pytest.raises(ZeroDivisionError):
        cache.embedding("a wish", lambda _: torch.zeros(1 // 0))
    assert entries(cache) == []


def aged(cache: PromptCache) -> None:
    """Every entry a minute older."""
    for path in entries(cache):
        then = path.stat().st_mtime - 60
        os.utime(path, (then, then))


def test_the_least_recently_used_entries_go(cache: PromptCache, encode: Encoder) -> None:
    for prompt in ("one", "two", "six"):
        cache.embedding(prompt, encode)
        aged(cache)
    cache.embedding("one", encode)  # is the youngest now
    aged(cache)
    size = entries(cache)[0].stat().st_size
    small = replace(cache, max_bytes=3 * size)
    small.embedding("ten", encode)
    encode.prompts.clear()
    for prompt in ("one", "six", "ten", "two"):
        small.embedding(prompt, encode)
    assert encode.prompts == ["two"]
    assert sum(path.stat().st_size for path in entries(cache)) <= small.max_bytes


def test_what_killed_writers_left_goes_too(cache: PromptCache, encode: Encoder) -> None:
    cache.folder.mkdir()
    left = cache.folder / "tmpabc.part"
    left.write_bytes(bytes(PLENTY))
    aged(cache)
    cache.embedding("a wish", encode)
    assert not left.exists()
    assert len(entries(cache)) == 1


def test_a_folder_among_the_entries_ends_no_eviction(
    cache: PromptCache, encode: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    cache.embedding("one", encode)
    size = entries(cache)[0].stat().st_size
    (cache.folder / "mine").mkdir()
    aged(cache)
    small = replace(cache, max_bytes=size)
    small.embedding("two", encode)
    files = [path for path in entries(cache) if path.is_file()]
    assert [path.stat().st_size for path in files] == [size]
    assert (cache.folder / "mine").is_dir()
    assert caplog.text == "", "nor does anybody try to delete it"


def test_what_is_larger_than_the_whole_cache_pushes_nothing_out(
    cache: PromptCache, encode: Encoder
) -> None:
    cache.embedding("a wish", encode)
    (entry,) = entries(cache)
    small = replace(cache, max_bytes=entry.stat().st_size)
    assert torch.equal(small.embedding("long " * 1000, encode), encode("long " * 1000))
    assert entries(cache) == [entry]


def test_a_disk_that_cannot_be_written_costs_no_job(
    tmp_path: Path, encode: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = PromptCache(tmp_path / "file" / "prompts", PLENTY, "encoder")
    assert torch.equal(cache.embedding("a wish", encode), encode("a wish"))
    assert "cannot be kept" in caplog.text
    assert "wish" not in caplog.text and str(tmp_path) not in caplog.text


def test_many_at_once_harm_nobody(cache: PromptCache, encode: Encoder) -> None:
    """More than there is room for, so that entries vanish while others read them."""
    prompts = [f"wish {number}" for number in range(6)] * 40
    cache.embedding("a wish", encode)
    small = replace(cache, max_bytes=3 * entries(cache)[0].stat().st_size)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda prompt: small.embedding(prompt, encode), prompts))
    assert all(torch.equal(a, encode(b)) for a, b in zip(found, prompts, strict=True))
    assert {path.suffix for path in entries(cache)} == {".safetensors"}


# with the tiny model


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, prompt_cache_megabytes=1)


@pytest.fixture
def voice(make_track: Callable[..., Path]) -> Iterator[SpeechFile]:
    with SpeechFile(make_track(1.0)) as voice:
        yield voice


def render(model: Model, voice: SpeechFile, spec: GenerationSpec, settings: Settings) -> np.ndarray:
    pipeline = InfiniteTalkPipeline(model, prompts=PromptCache.of(model, settings))
    windows = pipeline.render(
        spec,
        PICTURE,
        [voice],
        WindowPlan(13, 13, 5),
        on_progress=lambda _: None,
        canceling=lambda: False,
    )
    return np.concatenate([window.frames for window in windows])


def test_a_job_whose_prompts_are_known_never_runs_the_text_encoder_and_gives_the_same_bits(
    load_tiny: Callable[[], Model], voice: SpeechFile, settings: Settings
) -> None:
    model = load_tiny()
    runs: list[object] = []
    model.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    spec = specify("tiny", window=13, motion_frames=5, text_guidance=3.0)
    without = render(model, voice, spec, replace(settings, prompt_cache_megabytes=0))
    assert len(runs) == 2
    assert not settings.prompts_folder.exists()
    missed, hit = (render(model, voice, spec, settings) for _ in range(2))
    assert len(runs) == 4
    assert np.array_equal(missed, without)
    assert np.array_equal(hit, without)
    assert len(list(settings.prompts_folder.iterdir())) == 2


def test_where_none_is_kept_those_there_are_deleted(tiny_model: Model, settings: Settings) -> None:
    cache = PromptCache.of(tiny_model, settings)
    assert cache is not None
    for prompt in ("one", "two"):
        cache.embedding(prompt, Encoder())
    (cache.folder / "tmpabc.part").write_bytes(b"half a prompt")
    (cache.folder / "mine").mkdir()
    assert PromptCache.of(tiny_model, replace(settings, prompt_cache_megabytes=0)) is None
    assert [path.name for path in entries(cache)] == ["mine"]


def test_prompts_that_cannot_be_deleted_stop_no_start(
    tiny_model: Model, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.prompts_folder.write_text("in the way")
    assert PromptCache.of(tiny_model, replace(settings, prompt_cache_megabytes=0)) is None
    assert "cannot be deleted" in caplog.text and str(settings.home) not in caplog.text


def test_whatever_decides_the_bits_is_in_the_name_of_the_encoder(
    tiny_model: Model, tiny_folder: Path
) -> None:
    manifest, cpu = tiny_model.manifest, torch.device("cpu")
    in_8_bits = TextPlacement.DEVICE_FP8
    others = [
        load_model(tiny_folder, cpu, torch.bfloat16),
        load_model(tiny_folder, cpu, torch.float32, text_encoder=in_8_bits),
    ]
    for name in (weights_file("text_encoder"), TOKENIZER):
        files = {**manifest.files, name: FileEntry(1, "0" * 64)}
        others.append(replace(tiny_model, manifest=replace(manifest, files=files)))
    names = {encoder_name(model) for model in (tiny_model, *others)}
    assert len(names) == 5


def test_another_transformer_shares_the_embeddings(tiny_model: Model) -> None:
    manifest = tiny_model.manifest
    files = {**manifest.files, weights_file("transformer"): FileEntry(1, "0" * 64)}
    other = replace(tiny_model, manifest=replace(manifest, preset="best", files=files))
    assert encoder_name(other) == encoder_name(tiny_model)
