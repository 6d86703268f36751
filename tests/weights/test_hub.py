"""The hub as an origin, over HTTP: descriptions, ranges, transfers that resume, refusals."""

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from infinitetalk.errors import (
    Canceled,
    ConnectionFailed,
    InfiniteTalkError,
    InvalidSetting,
    SourceFileMissing,
    SourceForbidden,
    WeightsCorrupt,
)
from infinitetalk.weights.catalog import Catalog, RemoteFile, Source
from infinitetalk.weights.hub import PAUSES_S, Hub
from infinitetalk.weights.hub_errors import LONGEST_PAUSE_S
from infinitetalk.weights.origin import pin
from tests.fake_hub import SIGNATURE, FakeHub, Fault

VAE = "Wan2.1_VAE.pth"
TOKEN = "hf_secret0123456789"


@pytest.fixture
def vae(hub_catalog: Catalog) -> tuple[Source, RemoteFile]:
    """A file that is not pinned yet."""
    part = next(part for part in hub_catalog.parts if part.name == "vae")
    return part.sources[0], RemoteFile(VAE)


def content_of(hub: FakeHub, source: Source, file: RemoteFile) -> bytes:
    return (hub.folder / source.repo / file.path).read_bytes()


def pinned(origin: Hub, source: Source) -> tuple[Source, RemoteFile]:
    found = pin(origin, source)
    return found, found.files[0]


def patient(hub: FakeHub, pauses: list[float], **others: object) -> Hub:
    """A client that waits no time."""
    return Hub(hub.endpoint, sleep=pauses.append, **others)  # type: ignore[arg-type]


def ignore(_: float) -> None:
    """Progress that nobody wants to know."""


def test_a_large_file_is_described_with_its_hash(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder) as hub:
        found = Hub(f"{hub.endpoint}/").describe(*vae)
        stored = hub.snapshot(vae[0].repo, "main")
    assert stored is not None
    listed = next(file for file in stored.files if file.path == VAE)
    assert (found.revision, found.size) == (stored.commit, listed.size)
    assert found.sha256 == listed.sha256


def test_a_small_file_is_described_behind_a_redirect_and_without_a_hash(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder) as hub:
        found = Hub(hub.endpoint).describe(vae[0], RemoteFile("README.md"))
        assert found.size == (hub_folder / vae[0].repo / "README.md").stat().st_size
    assert found.sha256 is None


def test_a_branch_is_taken_at_its_commit(hub_folder: Path, hub_catalog: Catalog) -> None:
    part = next(part for part in hub_catalog.parts if part.name == "audio_encoder")
    proposed = Source("", part.sources[0].repo, part.sources[0].files, "-", "-", None, "refs/pr/1")
    with FakeHub(hub_folder) as hub:
        assert pin(Hub(hub.endpoint), proposed).revision == part.sources[0].revision
        with pytest.raises(SourceFileMissing, match=r"model\.safetensors of Tencent"):
            Hub(hub.endpoint).describe(
                Source("", proposed.repo, (), "-", "-"), part.sources[0].files[0]
            )


def test_another_file_than_the_catalogs_comes_with_what_to_do(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    wrong = replace(vae[0], files=(RemoteFile(VAE, 7),))
    with FakeHub(hub_folder) as hub, pytest.raises(WeightsCorrupt) as refused:
        pin(Hub(hub.endpoint), wrong)
    for way in ("--catalog FILE", "report"):
        assert way in refused.value.message


def test_looking_at_the_head_of_a_file_asks_for_one_range(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder) as hub:
        with Hub(hub.endpoint).open(*vae) as file:
            head, _ = file.read(100), file.seek(-50, 2)
            tail = file.read()
        content = content_of(hub, *vae)
    assert (head, tail) == (content[:100], content[-50:])
    assert [asked.range for asked in hub.asked if asked.sent] == [f"bytes=0-{len(content) - 1}"]


def test_a_hub_that_gives_no_ranges_is_not_read_to_the_end(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder, Fault(VAE, times=99, ignores_range=True)) as hub:
        file = patient(hub, []).open(*vae)
        with pytest.raises(ConnectionFailed, match="does not give parts of files"):
            file.read(8)


def test_a_file_is_fetched_to_where_its_repository_has_it(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    counts: list[int] = []
    with FakeHub(hub_folder) as hub:
        origin = Hub(hub.endpoint)
        source, file = pinned(origin, vae[0])
        assert origin.missing_bytes(source, file, tmp_path) == file.size
        path = origin.fetch(source, file, tmp_path, counts.append)
        assert path == tmp_path / source.repo / VAE
        assert path.read_bytes() == content_of(hub, source, file)
        assert origin.missing_bytes(source, file, tmp_path) == 0
        origin.fetch(source, file, tmp_path, counts.append)
    assert sum(counts) == 2 * path.stat().st_size
    assert hub.served(VAE) == path.stat().st_size
    assert [other.name for other in path.parent.iterdir()] == [VAE]


def test_a_broken_connection_is_taken_up_where_it_broke(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    pauses: list[float] = []
    counts: list[int] = []
    with FakeHub(hub_folder, Fault(VAE, times=8, cut_after=20_000)) as hub:
        origin = patient(hub, pauses)
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, counts.append)
        assert path.read_bytes() == content_of(hub, *vae)
    assert hub.served(VAE) == sum(counts) == path.stat().st_size
    assert pauses == [PAUSES_S[0]] * 8  # more often than it has patience without progress


def test_what_was_fetched_before_giving_up_is_kept(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    pauses: list[float] = []
    with FakeHub(hub_folder, Fault(VAE, cut_after=100_000)) as hub:
        origin = patient(hub, pauses)
        source, file = pinned(origin, vae[0])
        hub.fail(Fault(VAE, times=99, cut_after=0))
        with pytest.raises(ConnectionFailed, match="cannot be reached, or breaks"):
            origin.fetch(source, file, tmp_path, ignore)
        assert tuple(pauses) == PAUSES_S
        assert origin.missing_bytes(source, file, tmp_path) == (file.size or 0) - 100_000
    counts: list[int] = []
    with FakeHub(hub_folder) as hub:
        origin = patient(hub, [])
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, counts.append)
        assert path.read_bytes() == content_of(hub, source, file)
        assert hub.served(VAE) == (file.size or 0) - 100_000
    assert (counts[0], sum(counts)) == (100_000, file.size)


def test_a_part_that_has_become_too_long_is_fetched_anew(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, Fault("/store/", times=99, status=503)) as hub:
        origin = patient(hub, [])
        with pytest.raises(ConnectionFailed):
            origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore)
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(10_000_000))
    with FakeHub(hub_folder) as hub:
        origin = patient(hub, [])
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore)
        assert path.read_bytes() == content_of(hub, *vae)


def test_an_answer_that_ends_too_early_is_asked_for_again(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, Fault(VAE, times=2, end_after=1000)) as hub:
        origin = patient(hub, [])
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore)
        assert path.read_bytes() == content_of(hub, *vae)
        hub.fail(Fault(VAE, end_after=1000))
        with origin.open(*vae) as file:
            assert file.read() == content_of(hub, *vae)


def test_answers_that_keep_ending_too_early_are_given_up(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder, Fault(VAE, times=99, end_after=0)) as hub:
        file = patient(hub, []).open(*vae)
        with pytest.raises(ConnectionFailed):
            file.read(8)


def test_a_transfer_that_stalls_is_taken_up_again(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, Fault(VAE, hold_after=50_000)) as hub:
        origin = patient(hub, [], timeout_s=0.3)
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore)
        assert path.read_bytes() == content_of(hub, *vae)


def test_a_server_that_sends_everything_again_makes_no_longer_file(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    counts: list[int] = []
    faults = Fault(VAE, cut_after=50_000), Fault(VAE, ignores_range=True)
    with FakeHub(hub_folder, *faults) as hub:
        origin = patient(hub, [])
        path = origin.fetch(*pinned(origin, vae[0]), tmp_path, counts.append)
        assert path.read_bytes() == content_of(hub, *vae)
    assert -50_000 in counts
    assert sum(counts) == path.stat().st_size


def test_a_part_of_another_revision_is_not_continued(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder) as hub:
        origin = Hub(hub.endpoint)
        source, file = pinned(origin, vae[0])
        old = tmp_path / source.repo / f".{VAE}.0123456789abcdef.part"
        old.parent.mkdir(parents=True)
        old.write_bytes(b"old")
        path = origin.fetch(source, file, tmp_path, ignore)
        assert path.read_bytes() == content_of(hub, source, file)
    assert not old.exists()


def test_progress_may_stop_a_transfer_before_a_byte_is_written(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    def stop(count: int) -> None:
        if count:
            raise Canceled("Stop.")

    with FakeHub(hub_folder) as hub:
        origin = Hub(hub.endpoint)
        source, file = pinned(origin, vae[0])
        with pytest.raises(Canceled):
            origin.fetch(source, file, tmp_path, stop)
        assert origin.missing_bytes(source, file, tmp_path) == file.size


GATED = "Wan-AI/Wan2.1-I2V-14B-480P"
MISSING = {"times": 99, "status": 404}


@pytest.mark.parametrize(
    ("settings", "token", "error", "words"),
    [
        ({"gated": [GATED]}, None, SourceForbidden, f"{GATED} has a licence to accept"),
        ({"gated": [GATED], "tokens": {TOKEN: ()}}, TOKEN, SourceForbidden, "HF_TOKEN"),
        ({}, "hf_typo", SourceForbidden, "look at HF_TOKEN"),
        ({"faults": [Fault("/", status=403)]}, None, SourceForbidden, "look at HF_TOKEN"),
        ({"faults": [Fault("/", status=404)]}, None, SourceFileMissing, f"{VAE} of {GATED}"),
        ({"faults": [Fault("/", status=400)]}, None, ConnectionFailed, "answers 400"),
    ],
    ids=["gated", "gated, other account", "bad token", "forbidden", "gone", "bad request"],
)
def test_a_refusal_says_what_to_do(
    settings: dict[str, object],
    token: str | None,
    error: type[InfiniteTalkError],
    words: str,
    hub_folder: Path,
    vae: tuple[Source, RemoteFile],
) -> None:
    faults = settings.pop("faults", [])
    pauses: list[float] = []
    with FakeHub(hub_folder, *faults, **settings) as hub:  # type: ignore[arg-type, misc]
        origin = Hub(hub.endpoint, token, sleep=pauses.append)
        with pytest.raises(error, match=words) as refused:
            origin.describe(*vae)
    assert type(refused.value) is error
    assert pauses == []


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(
    "change",
    [
        lambda source: (Source("", "nobody/nothing", (), "-", "-"), RemoteFile(VAE)),
        lambda source: (source, RemoteFile("nothing.pth")),
        lambda source: (Source("", source.repo, (), "-", "-", "0" * 40), RemoteFile(VAE)),
        lambda source: (Source("", source.repo, (), "-", "-", branch="dev"), RemoteFile(VAE)),
    ],
    ids=["repository", "file", "revision", "branch"],
)
def test_what_is_not_there_is_missing(
    change: Callable[[Source], tuple[Source, RemoteFile]],
    token: str | None,
    hub_folder: Path,
    vae: tuple[Source, RemoteFile],
) -> None:
    with FakeHub(hub_folder, tokens={TOKEN: ()}) as hub, pytest.raises(SourceFileMissing):
        Hub(hub.endpoint, token).describe(*change(vae[0]))


def test_a_token_opens_what_it_may_and_goes_to_the_hub_only(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, gated=[GATED], tokens={TOKEN: [GATED]}) as hub:
        with pytest.raises(SourceForbidden):
            Hub(hub.endpoint).describe(*vae)
        hub.asked.clear()
        origin = Hub(hub.endpoint, f"{TOKEN}\n")  # as read from a file
        origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore)
        with origin.open(*vae) as file:
            file.read(8)
    tokens = {asked.path.startswith("/store/"): asked.token for asked in hub.asked}
    assert tokens == {False: TOKEN, True: None}


def test_a_token_does_not_follow_a_redirect_that_leaves_the_hub(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    with FakeHub(hub_folder, tokens={TOKEN: ()}) as hub:
        elsewhere = {"Location": f"{hub.store}/store/x/y/main/{VAE}"}
        hub.fail(Fault("/resolve/", times=99, status=302, headers=elsewhere))
        with pytest.raises(ConnectionFailed):
            Hub(hub.endpoint, TOKEN, sleep=ignore).describe(*vae)
    tokens = {asked.path.startswith("/store/"): asked.token for asked in hub.asked}
    assert tokens == {False: TOKEN, True: None}


@pytest.mark.parametrize(
    ("status", "headers", "pause"),
    [
        (503, {}, PAUSES_S[0]),
        (500, {}, PAUSES_S[0]),
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, PAUSES_S[0]),
        (429, {"RateLimit": '"resolvers";r=0;t=55'}, 55.0),
        (429, {"RateLimit": '"resolvers";r=12;t=55'}, PAUSES_S[0]),
        (429, {"Retry-After": "86400"}, LONGEST_PAUSE_S),
    ],
)
def test_a_busy_hub_is_asked_again_when_it_wants(
    status: int,
    headers: dict[str, str],
    pause: float,
    hub_folder: Path,
    vae: tuple[Source, RemoteFile],
) -> None:
    pauses: list[float] = []
    with FakeHub(hub_folder, Fault(VAE, status=status, headers=headers)) as hub:
        assert patient(hub, pauses).describe(*vae).size
    assert pauses == [pause]


def test_a_hub_that_stays_busy_is_given_up(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    pauses: list[float] = []
    with FakeHub(hub_folder, Fault(VAE, times=99, status=503)) as hub:
        origin = patient(hub, pauses)
        with pytest.raises(ConnectionFailed, match="answered 503, again and again"):
            origin.describe(*vae)
    assert tuple(pauses) == PAUSES_S


def test_an_address_of_the_store_that_has_expired_is_asked_for_again(
    hub_folder: Path, vae: tuple[Source, RemoteFile], tmp_path: Path
) -> None:
    with FakeHub(hub_folder, Fault("/store/", status=403)) as hub:
        origin = patient(hub, [])
        assert origin.fetch(*pinned(origin, vae[0]), tmp_path, ignore).exists()


def test_where_nobody_answers_every_try_is_told_and_what_may_help(
    vae: tuple[Source, RemoteFile], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    origin = Hub(f"http://127.0.0.1:{port}", sleep=ignore)
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port} cannot be reached") as given_up:
        origin.describe(*vae)
    for way in ("HF_ENDPOINT", "HTTPS_PROXY", "--from FOLDER"):
        assert way in given_up.value.message
    assert [record.getMessage().partition(", trying")[2] for record in caplog.records] == [
        f" again in {pause:.0f} s" for pause in PAUSES_S
    ]


def test_something_that_is_no_hub_is_told_from_one(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    pauses: list[float] = []
    with FakeHub(hub_folder, Fault(VAE, times=99, status=200)) as hub:
        origin = patient(hub, pauses)
        with pytest.raises(ConnectionFailed, match="does not answer like a hub"):
            origin.describe(*vae)
    assert pauses == []  # asking again would not make it one


def test_redirects_without_end_are_given_up(
    hub_folder: Path, vae: tuple[Source, RemoteFile]
) -> None:
    fault = Fault(VAE, times=999, status=307, headers={"Location": f"/{GATED}/resolve/x/{VAE}"})
    with FakeHub(hub_folder, fault) as hub:
        origin = patient(hub, [])
        with pytest.raises(ConnectionFailed, match="redirects without end"):
            origin.describe(*vae)


def test_offline_mode_of_the_library_is_respected(
    hub_folder: Path, vae: tuple[Source, RemoteFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with FakeHub(hub_folder) as hub, pytest.raises(ConnectionFailed, match="HF_HUB_OFFLINE is set"):
        Hub(hub.endpoint).describe(*vae)
    assert hub.asked == []


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://hub", "https://", "file:///etc"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidSetting, match="HF_ENDPOINT"):
        Hub(endpoint)


def test_neither_token_nor_signature_nor_password_shows(
    hub_folder: Path,
    vae: tuple[Source, RemoteFile],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="infinitetalk")
    with FakeHub(hub_folder, tokens={TOKEN: ()}) as hub:
        origin = Hub(hub.endpoint, TOKEN, sleep=ignore)
        source, file = pinned(origin, vae[0])
        hub.fail(Fault("/store/", times=99, status=503))
        with pytest.raises(ConnectionFailed) as given_up:
            origin.fetch(source, file, tmp_path, ignore)
    shown = f"{given_up.value!r} {given_up.getrepr()} {origin!r} {caplog.text}"
    assert TOKEN not in shown
    assert SIGNATURE not in shown
    assert Hub("https://me:pass@hub.example/x").name == "hub.example"
