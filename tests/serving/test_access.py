"""API keys over HTTP: who sees what."""

import pytest

from tests.serving.playing import Service, serving

ANN = {"authorization": "Bearer key-of-ann"}
BOB = {"authorization": "bearer key-of-bob"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "key-of-ann"},
        {"authorization": "Basic key-of-ann"},
        {"authorization": "Bearer key-of-ann2"},
        {"authorization": "Bearer kéy".encode("latin-1")},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/generate/submit"),
        ("POST", "/generate"),
        ("GET", "/generate/status"),
        ("GET", "/generate/get"),
        ("PUT", "/generate/cancel"),
        ("POST", "/generate/retry"),
        ("POST", "/submit"),
        ("GET", "/result"),
        ("GET", "/v1/jobs/x"),
        ("DELETE", "/v1/jobs/x"),
        ("GET", "/v1/jobs/x/events"),
        ("GET", "/v1/queue"),
        ("GET", "/v1/info"),
    ],
)
def test_without_a_valid_key_nothing_is_told(
    keyed: Service, headers: dict[str, str], method: str, path: str
) -> None:
    answer = keyed.client.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_each_key_sees_its_own_jobs_only(keyed: Service) -> None:
    task_id = keyed.submit(ANN)
    query = {"task_id": task_id}
    assert keyed.client.get("/generate/status", params=query, headers=ANN).status_code == 200
    for answer in (
        keyed.client.get("/generate/status", params=query, headers=BOB),
        keyed.client.get("/generate/get", params=query, headers=BOB),
        keyed.client.put("/generate/cancel", params=query, headers=BOB),
        keyed.client.post("/generate/retry", params=query, headers=BOB),
        keyed.client.get("/result", params={"call_id": task_id}, headers=BOB),
        keyed.client.get(f"/v1/jobs/{task_id}", headers=BOB),
        keyed.client.get(f"/v1/jobs/{task_id}/events", headers=BOB),
        keyed.client.delete(f"/v1/jobs/{task_id}", headers=BOB),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    assert keyed.host.queue.position(keyed.host.store.get(task_id)) == 0


def test_an_idempotency_key_is_its_owners(keyed: Service) -> None:
    same = {"idempotency-key": "k1", "x-request-id": "r"}
    ids = [keyed.submit({**who, **same}, seed="1") for who in (ANN, BOB, ANN)]
    assert ids[0] == ids[2] != ids[1]


def test_no_key_is_kept_anywhere(keyed: Service) -> None:
    keyed.submit(ANN)
    stored = b"".join(p.read_bytes() for p in keyed.settings.data_folder.glob("jobs.db*"))
    assert stored
    assert b"key-of-ann" not in stored
    assert "key-of-ann" not in repr(keyed.settings)


@pytest.fixture(scope="module")
def keyed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Service:
    names = ("portrait", "speech", "sandbox")
    portrait, speech, sandbox = (request.getfixturevalue(name) for name in names)
    data = tmp_path_factory.mktemp("keyed")
    context = serving(
        data, portrait, speech, sandbox=sandbox, api_keys=("key-of-ann", "key-of-bob")
    )
    service = context.__enter__()
    request.addfinalizer(lambda: context.__exit__(None, None, None))
    return service
