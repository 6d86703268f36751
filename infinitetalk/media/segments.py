"""Segments for watching while it renders: pictures and sound of finished windows as fragmented mp4.

Nothing is encoded here. The fragment that `writer` made of a window gets its place on the time line
of the whole video, and beside its pictures the packets of the sound that are heard meanwhile. The
sound was encoded in one piece, so it has no seam where two segments meet.

A packet of AAC holds 1024 samples, and the first one is the encoder's run-up before sample 0: it is
left out, so packet k + 1 is heard from sample 1024 k on.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from infinitetalk.media.boxes import box, children, find, full_box
from infinitetalk.spec import FPS

PACKET = 1024  # samples
_PICTURES, _SOUND = 1, 2  # numbers of the tracks
_FROM_MOOF = 0x020000  # tfhd: data offsets count from the start of the moof
_DURATION, _FLAGS = 0x08, 0x20  # tfhd: both are the same for all packets
_OFFSET, _SIZES = 0x01, 0x200  # trun: where the data starts, one size for each packet
_NO_DEPENDENCE = 0x02000000  # a packet can be decoded without others


@dataclass(frozen=True, slots=True)
class EncodedSound:
    """The sound of a whole video, in an mp4 file of its own."""

    path: Path
    track: bytes  # content of its trak box
    rate: int  # samples a second
    start: int  # where in the file its first packet is, in bytes
    sizes: np.ndarray  # of all packets, in bytes

    @classmethod
    def of(cls, path: Path) -> Self:
        """What the file says of itself.

        Raises:
            OSError, LookupError: there is no such file, or it is another one.
        """
        with path.open("rb") as file:
            track = find(_box_of(file, b"moov"), b"trak")
        rate = struct.unpack_from(">I", find(track, b"mdia", b"mdhd"), 12)[0]
        table = find(track, b"mdia", b"minf", b"stbl")
        start = struct.unpack_from(">I", find(table, b"stco"), 8)[0]
        sizes = np.frombuffer(find(table, b"stsz"), ">u4", offset=12)
        return cls(path, track, rate, start, sizes)

    def packets(self, first: int, last: int) -> bytes:
        """The packets from `first` up to but not including `last`, one after the other."""
        before = int(self.sizes[:first].sum())
        with self.path.open("rb") as file:
            file.seek(self.start + before)
            return file.read(int(self.sizes[first:last].sum()))


def frames_of(fragment: bytes) -> int:
    """How many frames a fragment holds."""
    return int(struct.unpack_from(">I", find(fragment, b"moof", b"traf", b"trun"), 4)[0])


def init_segment(fragment: bytes, sound: EncodedSound) -> bytes:
    """What a player must know before the first segment: the two tracks, without any content."""
    movie = dict(children(find(fragment, b"moov")))
    pictures = box(b"trak", movie[b"trak"])
    tracks = pictures + box(b"trak", *_without_packets(sound.track))
    return box(b"ftyp", find(fragment, b"ftyp")) + box(
        b"moov",
        box(b"mvhd", movie[b"mvhd"]),
        tracks,
        box(b"mvex", _trex(_PICTURES), _trex(_SOUND)),
    )


def media_segment(fragment: bytes, sound: EncodedSound, number: int, first_frame: int) -> bytes:
    """One window, to be shown from frame `first_frame` of the video on.

    Args:
        number: of the segment, from 0.
    """
    last_frame = first_frame + frames_of(fragment)
    first, last = (_packet_at(frame, sound.rate) for frame in (first_frame, last_frame))
    heard = sound.packets(first, last)
    pictures = find(fragment, b"mdat")

    def movie(size: int) -> bytes:
        data = size + 8  # after the header of the mdat
        return box(
            b"moof",
            full_box(b"mfhd", 0, 0, struct.pack(">I", number + 1)),
            _moved(find(fragment, b"moof", b"traf"), first_frame, data),
            _sound_run(sound.sizes[first:last], first - 1, data + len(pictures)),
        )

    return movie(len(movie(0))) + box(b"mdat", pictures, heard)


def _packet_at(frame: int, rate: int) -> int:
    """The first packet that is heard from the beginning when this frame is shown, or later."""
    return 1 - (-frame * rate // (FPS * PACKET))


def _box_of(file: BinaryIO, kind: bytes) -> bytes:
    """Content of a box of a file, without reading the others."""
    while header := file.read(8):
        size, name = struct.unpack(">I4s", header)
        if name == kind:
            return file.read(size - 8)
        file.seek(size - 8, 1)
    raise LookupError(f"There is no box {kind.decode()}.")


def _without_packets(track: bytes) -> list[bytes]:
    """A sound track with another number, no packets and no length; they come with the segments."""
    return [
        _replaced(b"tkhd", find(track, b"tkhd"), {12: _SOUND, 20: 0}),
        box(b"mdia", *map(_without_length, children(find(track, b"mdia")))),
    ]


def _without_length(inner: tuple[bytes, bytes]) -> bytes:
    kind, content = inner
    if kind == b"mdhd":
        return _replaced(kind, content, {16: 0})
    if kind != b"minf":
        return box(kind, content)
    kept = [box(*one) for one in children(content) if one[0] != b"stbl"]
    nothing = [full_box(name, 0, 0, bytes(4)) for name in (b"stts", b"stsc", b"stco")]
    no_sizes = full_box(b"stsz", 0, 0, bytes(8))
    entry = box(b"stsd", find(content, b"stbl", b"stsd"))
    return box(b"minf", *kept, box(b"stbl", entry, *nothing, no_sizes))


def _trex(track: int) -> bytes:
    return full_box(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, 0))


def _moved(traf: bytes, first_frame: int, data: int) -> bytes:
    """The pictures' part of a fragment at another time, with its data elsewhere."""
    parts = dict(children(traf))
    (ticks,) = struct.unpack_from(">I", parts[b"tfhd"], 8)  # of one frame
    time = full_box(b"tfdt", 1, 0, struct.pack(">Q", first_frame * ticks))
    run = _replaced(b"trun", parts[b"trun"], {8: data})
    return box(b"traf", box(b"tfhd", parts[b"tfhd"]), time, run)


def _sound_run(sizes: np.ndarray, first: int, data: int) -> bytes:
    """The sound's part: packets from the `first`, all of one length."""
    head = struct.pack(">3I", _SOUND, PACKET, _NO_DEPENDENCE)
    time = struct.pack(">Q", first * PACKET)
    run = struct.pack(">2I", len(sizes), data)
    return box(
        b"traf",
        full_box(b"tfhd", 0, _FROM_MOOF | _DURATION | _FLAGS, head),
        full_box(b"tfdt", 1, 0, time),
        full_box(b"trun", 0, _OFFSET | _SIZES, run, sizes.astype(">u4").tobytes()),
    )


def _replaced(kind: bytes, content: bytes, numbers: dict[int, int]) -> bytes:
    """A box with other 32-bit numbers at these places of its content."""
    changed = bytearray(content)
    for place, number in numbers.items():
        struct.pack_into(">I", changed, place, number)
    return box(kind, bytes(changed))
