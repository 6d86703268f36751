"""Consent: what a job says about whose face and voice it uses. Nobody here can tell if it is true.

It is free text, a name or the number of a release form, because what counts as proof differs. It is
kept with the job for its owner, never put into the video, and erased with the job.
"""

from infinitetalk.config import Settings
from infinitetalk.errors import ConsentMissing, InvalidField

MAX_CONSENT_CHARACTERS = 500


def check_consent(consent: str | None, settings: Settings) -> None:
    """Refuse a job that states none where this deployment demands it.

    Raises:
        ConsentMissing: that is the case.
        InvalidField: the statement is too long.
    """
    if len(consent or "") > MAX_CONSENT_CHARACTERS:
        raise InvalidField(
            f"consent is longer than {MAX_CONSENT_CHARACTERS} characters.", field="consent"
        )
    if settings.require_consent and not (consent or "").strip():
        raise ConsentMissing(
            "Say in consent whose consent covers the face and the voice, or where it is recorded.",
            field="consent",
        )
