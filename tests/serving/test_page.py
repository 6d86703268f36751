"""The page as files: whole, for everybody, and held to its own server by its policy."""

import re

import pytest

from infinitetalk.jobfolder import MEDIA_FIELDS
from infinitetalk.serving.request import GenerateRequest
from tests.serving.playing import Running, Service


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/style.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
        ("/ui/example/portrait.png", "image/png"),
    ],
)
def test_a_file_of_the_page_is_told_as_what_it_is(service: Service, path: str, kind: str) -> None:
    answer = service.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_the_page_loads_nothing_but_its_own_files(service: Service) -> None:
    page = service.get("/ui/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert "app.js" in named
    waiting, seen = {*named}, set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = service.get(f"/ui/{name}")
        assert answer.status_code == 200, name
        if name.endswith(".js"):
            waiting |= {*re.findall(r'from "\./([^"]+)"', answer.text)} - seen
    assert {"api.js", "checks.js", "player.js", "stage.js"} <= seen


def test_the_address_without_a_slash_leads_there(service: Service) -> None:
    answer = service.client.get("/ui", follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"].endswith("/ui/")


def test_what_did_not_change_is_not_sent_again(service: Service) -> None:
    answer = service.get("/ui/app.js")
    again = service.client.get("/ui/app.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/ui/../app.py", "/ui/%2e%2e/app.py", "/ui/nothing.js"])
def test_no_other_file_is_shown(service: Service, path: str) -> None:
    assert service.get(path).status_code == 404


def test_the_page_itself_needs_no_key(run: Running) -> None:
    with run(api_keys=("secret",)) as service:
        assert service.get("/ui/").status_code == 200
        assert service.get("/v1/info").status_code == 401


def test_the_form_asks_for_fields_that_there_are(service: Service) -> None:
    named = set(re.findall(r'<(?:input|select|textarea) [^>]*name="([^"]+)"', _html(service)))
    assert named
    assert named <= {*MEDIA_FIELDS, *GenerateRequest.model_fields}


def test_every_field_has_a_label_and_a_place_for_its_error(service: Service) -> None:
    html = _html(service)
    ids = set(re.findall(r' id="([^"]+)"', html))
    for name in re.findall(r' aria-(?:describedby|labelledby)="([^"]+)"', html):
        assert name in ids
    for name in re.findall(r'<label class="field" for="([^"]+)"', html):
        assert name in ids


def _html(service: Service) -> str:
    return re.sub(r"\s+", " ", service.get("/ui/").text)
