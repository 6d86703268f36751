"""Content Credentials: a signed C2PA manifest in the file, where a certificate is configured.

The manifest says that the video was created, and of what kind its source is; c2pa-python writes and
signs it. Who trusts the certificate is decided by whoever reads it. Not here: keys, which belong to
the operator.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from infinitetalk import __version__
from infinitetalk.config import Settings
from infinitetalk.disclosure.metadata import DIGITAL_SOURCE_TYPE, MODEL
from infinitetalk.errors import InvalidSetting, SigningFailed

if TYPE_CHECKING:  # an extra of the package
    import c2pa

Sign = Callable[[Path, Path], None]
"""(mp4 file, where its signed copy goes). Raises SigningFailed."""

_PEM = "-----BEGIN"
_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def video_signer(settings: Settings) -> Sign | None:
    """What signs videos here, tried on a picture of one pixel; None where nothing is configured.

    Raises:
        InvalidSetting: certificate and key are not there, or do not sign.
    """
    if settings.c2pa_certificate is None and settings.c2pa_key is None:
        return None
    credential = _credential(settings)
    try:
        _try(credential)
    except SigningFailed as error:
        raise InvalidSetting(f"The C2PA certificate and key do not sign: {error.__cause__}.") from (
            error
        )
    return lambda video, signed: _sign_video(video, signed, credential)


@dataclass(frozen=True, slots=True)
class _Credential:
    """Whom the manifest is signed by."""

    chain: bytes  # PEM, the signer's certificate first
    key: bytes  # PEM
    algorithm: str
    timestamp_url: str | None


def _credential(settings: Settings) -> _Credential:
    chain = _pem("INFINITETALK_C2PA_CERTIFICATE", settings.c2pa_certificate)
    key = _pem("INFINITETALK_C2PA_KEY", settings.c2pa_key)
    return _Credential(chain, key, _algorithm(key), settings.c2pa_timestamp_url)


def _pem(variable: str, value: str | None) -> bytes:
    """What was given, or what is in the file that was named."""
    if value is None:
        raise InvalidSetting(f"{variable} is missing: signing needs a certificate and its key.")
    if value.lstrip().startswith(_PEM):
        return value.encode()
    try:
        return Path(value).expanduser().read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{variable} names a file that cannot be read.") from error


def _algorithm(key: bytes) -> str:
    """The name C2PA has for what this kind of key signs with."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise _not_installed() from error
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidSetting("INFINITETALK_C2PA_KEY is no private key without a password.") from (
            error
        )
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in _ALGORITHMS:
            return _ALGORITHMS[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return "ED25519"
        case rsa.RSAPrivateKey():
            return "PS256"
    raise InvalidSetting("INFINITETALK_C2PA_KEY is of a kind that C2PA does not sign with.")


def _try(credential: _Credential) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (1, 1)).save(picture, "PNG")
    _sign(lambda builder, signer: builder.sign(signer, "image/png", picture), credential)


def _sign_video(video: Path, signed: Path, credential: _Credential) -> None:
    with video.open("rb") as source, signed.open("w+b") as target:
        _sign(lambda builder, signer: builder.sign(signer, "video/mp4", source, target), credential)


def _sign(sign: Callable[["c2pa.Builder", "c2pa.Signer"], object], credential: _Credential) -> None:
    try:
        import c2pa
    except ImportError as error:
        raise _not_installed() from error
    algorithm = c2pa.C2paSigningAlg[credential.algorithm]
    url = credential.timestamp_url
    try:
        info = c2pa.C2paSignerInfo(
            algorithm, credential.chain, credential.key, url.encode() if url else None
        )
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(_manifest()) as builder:
            sign(builder, signer)
    except c2pa.C2paError as error:
        raise SigningFailed("The video could not be signed.") from error


def _manifest() -> str:
    created = {
        "action": "c2pa.created",
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "softwareAgent": {"name": MODEL},
    }
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    generator = {"name": "infinitetalk", "version": __version__}
    return json.dumps({"claim_generator_info": [generator], "assertions": [actions]})


def _not_installed() -> InvalidSetting:
    return InvalidSetting("Signing needs c2pa-python: pip install 'infinitetalk[c2pa]'.")
