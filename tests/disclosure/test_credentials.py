"""Content Credentials: what is signed can be read and holds; what cannot sign stops the start."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from infinitetalk.config import Settings
from infinitetalk.disclosure.credentials import video_signer
from infinitetalk.disclosure.metadata import DIGITAL_SOURCE_TYPE
from infinitetalk.errors import InvalidSetting, SigningFailed
from tests.disclosure.certificates import Pair, certified, key_text, self_signed


def signing(pair: Pair) -> Settings:
    return Settings(c2pa_certificate=pair.certificate, c2pa_key=pair.key)


def sign(settings: Settings, video: Path, target: Path) -> dict[str, Any]:
    """Sign a video and read its manifest back with what checks it: claims, hashes, signature."""
    signer = video_signer(settings)
    assert signer is not None
    signer(video, target)
    return read(target)


def read(video: Path) -> dict[str, Any]:
    with c2pa.Reader(str(video)) as reader:
        found: dict[str, Any] = json.loads(reader.json())
    return found


def problems(found: dict[str, Any]) -> set[str]:
    return {status["code"] for status in found.get("validation_status", ())}


def test_nothing_is_signed_unless_a_certificate_is_set() -> None:
    assert video_signer(Settings()) is None


@pytest.mark.parametrize(
    ("make_key", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "Es384"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (lambda: rsa.generate_private_key(65537, 2048), "Ps256"),
    ],
    ids=["elliptic", "edwards", "rsa"],
)
def test_any_key_that_c2pa_knows_signs(
    make_key: Callable[[], Any], algorithm: str, joined: Path, tmp_path: Path
) -> None:
    found = sign(signing(certified(make_key())), joined, tmp_path / "signed.mp4")
    [manifest] = found["manifests"].values()
    assert manifest["signature_info"]["alg"] == algorithm
    assert problems(found) == {"signingCredential.untrusted"}  # our authority is known to nobody


def test_the_manifest_says_what_made_the_video(pair: Pair, joined: Path, tmp_path: Path) -> None:
    found = sign(signing(pair), joined, tmp_path / "signed.mp4")
    [manifest] = found["manifests"].values()
    [actions] = [one for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    [created] = actions["data"]["actions"]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert manifest["claim_generator_info"][0]["name"] == "infinitetalk"


def test_a_change_after_signing_is_found(pair: Pair, joined: Path, tmp_path: Path) -> None:
    target = tmp_path / "signed.mp4"
    sign(signing(pair), joined, target)
    content = bytearray(target.read_bytes())
    content[-200] ^= 1
    target.write_bytes(content)
    assert "assertion.bmffHash.mismatch" in problems(read(target))


def test_certificate_and_key_may_be_files(pair: Pair, tmp_path: Path) -> None:
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.write_text(pair.certificate)
    key.write_text(pair.key)
    assert video_signer(Settings(c2pa_certificate=str(certificate), c2pa_key=str(key)))


def changed(**settings: Any) -> Callable[[Pair], Settings]:
    return lambda pair: replace(signing(pair), **settings)


BROKEN: dict[str, tuple[Callable[[Pair], Settings], str]] = {
    "no key": (changed(c2pa_key=None), "INFINITETALK_C2PA_KEY is missing"),
    "no certificate": (changed(c2pa_certificate=None), "CERTIFICATE is missing"),
    "no file": (changed(c2pa_key="/nowhere/key.pem"), "KEY names a file"),
    "no key in it": (changed(c2pa_key="-----BEGIN nonsense"), "is no private key"),
    "another's key": (lambda pair: replace(signing(pair), c2pa_key=certified().key), "do not sign"),
    "self-signed": (lambda _: signing(self_signed()), "do not sign"),
    "ended": (lambda _: signing(certified(days=-1)), "do not sign"),
    "a curve of others": (
        lambda pair: replace(
            signing(pair), c2pa_key=key_text(ec.generate_private_key(ec.SECP256K1()))
        ),
        "of a kind that C2PA does not sign with",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_sign_stops_the_start(case: str, pair: Pair) -> None:
    settings, reason = BROKEN[case]
    with pytest.raises(InvalidSetting, match=reason) as refused:
        video_signer(settings(pair))
    assert "PRIVATE" not in refused.value.message


def test_a_time_stamping_authority_that_is_not_there_stops_the_start(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    with pytest.raises(InvalidSetting, match="do not sign"):
        video_signer(replace(signing(pair), c2pa_timestamp_url=url))


def test_a_video_that_cannot_be_signed_is_an_error_of_ours(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    signer = video_signer(signing(pair))
    assert signer is not None
    with pytest.raises(SigningFailed):
        signer(tmp_path / "no.mp4", tmp_path / "signed.mp4")
