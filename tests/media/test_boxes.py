import pytest

from infinitetalk.media.boxes import box, children, find, full_box


def test_what_is_put_into_boxes_is_found_again() -> None:
    inner = full_box(b"tfdt", 1, 0x020000, b"time")
    file = box(b"ftyp", b"iso5") + box(b"moof", box(b"mfhd", b"1"), box(b"traf", inner))
    assert [kind for kind, _ in children(file)] == [b"ftyp", b"moof"]
    assert find(file, b"moof", b"traf", b"tfdt") == b"\x01\x02\x00\x00time"


def test_of_boxes_of_a_kind_the_first_is_found() -> None:
    assert find(box(b"trak", b"1") + box(b"trak", b"2"), b"trak") == b"1"


def test_a_box_that_is_not_there_is_named() -> None:
    with pytest.raises(LookupError, match="moof/traf"):
        find(box(b"moof", box(b"mfhd", b"1")), b"moof", b"traf")
