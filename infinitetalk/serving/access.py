"""API keys: who a request belongs to. Without configured keys everything belongs to everybody."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from infinitetalk.errors import Unauthenticated

ANYBODY = ""


class Gatekeeper:
    """Knows the keys of a deployment, and keeps no more of them than their hashes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hash(key) for key in keys]

    def owner(self, request: Request) -> str:
        """Name of the key in `Authorization: Bearer`, the same for ever for the same key.

        Raises:
            Unauthenticated: no key, or none of ours.
        """
        if not self._hashes:
            return ANYBODY
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = _hash(key.strip())
        # Every key is compared in constant time, so that an answer's time tells nothing.
        known = [hmac.compare_digest(given, ours) for ours in self._hashes]
        if scheme.lower() != "bearer" or not any(known):
            raise Unauthenticated("A valid API key is needed: Authorization: Bearer KEY.")
        return given[:16]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
