"""What it means when the hub does not answer as hoped: wait, go elsewhere, or ask the user."""

import re
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from infinitetalk.errors import (
    ConnectionFailed,
    InfiniteTalkError,
    SourceFileMissing,
    SourceForbidden,
)

LONGEST_PAUSE_S = 300.0  # that a hub may ask for; it counts requests in windows of five minutes

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""Of httpx or httpx2: whichever this version of the library is built on."""

_GONE = (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, DisabledRepoError)
_WAYS_AROUND = (
    "What may help: another address of the hub in HF_ENDPOINT, a proxy in HTTPS_PROXY, or the "
    "files from elsewhere with --from FOLDER."
)
_WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)


def refusal(error: Exception, hub: str, repo: str, path: str) -> InfiniteTalkError | None:
    """What an error is to the user; None where another try may help.

    Args:
        error: of `huggingface_hub`, or an `HTTP_ERROR`.
        hub: host of the hub, with a port where it has one.
    """
    if not isinstance(error, HfHubHTTPError):
        return None
    status = error.response.status_code
    is_of_hub = urlsplit(str(error.response.url)).hostname == urlsplit(f"//{hub}").hostname
    if isinstance(error, GatedRepoError):
        return SourceForbidden(
            f"{repo} has a licence to accept first: do so on its page on {hub}, and set HF_TOKEN "
            "to a token of the same account."
        )
    if isinstance(error, _GONE) or (status in (404, 410) and is_of_hub):
        return SourceFileMissing(
            f"{path} of {repo} is not on {hub}, at least not without a token that may read it."
        )
    if status in (401, 403) and is_of_hub:
        return SourceForbidden(f"{hub} does not give {repo} to this token; look at HF_TOKEN.")
    if is_of_hub and status not in _WORTH_ANOTHER_TRY:
        return ConnectionFailed(f"{hub} answers {status} about {path} of {repo}.")
    return None  # what a store refuses may be an address that has expired


def given_up(error: Exception, hub: str) -> ConnectionFailed:
    """What the last of several tries is to the user."""
    return ConnectionFailed(f"{trouble(error, hub)}, again and again. {_WAYS_AROUND}")


def trouble(error: Exception, hub: str) -> str:
    """What went wrong in a try that another may follow, as the beginning of a sentence."""
    if isinstance(error, HfHubHTTPError):
        return f"{hub} answered {error.response.status_code}"
    return f"{hub} cannot be reached, or breaks the connection off"


def asked_pause_s(error: Exception) -> float:
    """How long the hub wants to be left alone: Retry-After, or its rate limit's reset."""
    headers: Any = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    found = re.fullmatch(r"(\d+)", headers.get("retry-after", "")) or re.search(
        r"\br=0\b.*\bt=(\d+)", headers.get("ratelimit", "")
    )
    return min(float(found[1]), LONGEST_PAUSE_S) if found else 0.0
