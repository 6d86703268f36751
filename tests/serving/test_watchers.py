"""Places for those who wait."""

from contextlib import ExitStack

import pytest

from infinitetalk.serving.watchers import Watchers


def test_there_are_as_many_places_as_were_set() -> None:
    watchers = Watchers(2)
    with ExitStack() as waiting:
        assert [waiting.enter_context(watchers.place()) for _ in range(4)] == [
            *(True, True),
            *(False, False),
        ]


def test_a_place_is_free_again_however_the_wait_ended() -> None:
    watchers = Watchers(1)
    for _ in range(2):
        with pytest.raises(KeyError), watchers.place() as has_room:
            assert has_room
            raise KeyError


def test_who_found_no_room_frees_none() -> None:
    watchers = Watchers(1)
    with watchers.place():
        with watchers.place():
            pass
        with watchers.place() as has_room:
            assert not has_room
