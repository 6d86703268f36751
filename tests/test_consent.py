"""When a job has to say whose consent covers it."""

from contextlib import AbstractContextManager, nullcontext

import pytest

from infinitetalk.config import Settings
from infinitetalk.consent import MAX_CONSENT_CHARACTERS, check_consent
from infinitetalk.errors import ConsentMissing, InvalidField

DEMANDING = Settings(require_consent=1)


@pytest.mark.parametrize(
    ("settings", "consent", "outcome"),
    [
        (Settings(), None, nullcontext()),
        (Settings(), "release form 7", nullcontext()),
        (DEMANDING, "release form 7", nullcontext()),
        (DEMANDING, "x" * MAX_CONSENT_CHARACTERS, nullcontext()),
        (DEMANDING, None, pytest.raises(ConsentMissing)),
        (DEMANDING, "", pytest.raises(ConsentMissing)),
        (DEMANDING, "  \n", pytest.raises(ConsentMissing)),
        (Settings(), "x" * (MAX_CONSENT_CHARACTERS + 1), pytest.raises(InvalidField)),
    ],
)
def test_a_statement_is_needed_where_it_is_demanded(
    settings: Settings, consent: str | None, outcome: AbstractContextManager[object]
) -> None:
    with outcome:
        check_consent(consent, settings)
