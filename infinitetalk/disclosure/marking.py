"""The last steps of a video: the marks that machines read, then its name."""

from pathlib import Path

from infinitetalk.config import Settings
from infinitetalk.disclosure.credentials import Sign, video_signer
from infinitetalk.disclosure.label import visible_label
from infinitetalk.disclosure.metadata import add_xmp
from infinitetalk.errors import EncodingFailed
from infinitetalk.media.publish import publishing
from infinitetalk.media.writer import count_frames


def publish_marked(joined: Path, target: Path, frames: int, sign: Sign | None) -> None:
    """Mark a verified video of `frames` frames as generated, and publish it as `target`.

    What was joined is gone afterwards. A signature moves everything in the file, so a signed video
    is decoded once more.

    Raises:
        SigningFailed: it could not be signed.
        EncodingFailed: what was signed does not decode.
        StorageFull: the disk has no room.
    """
    with publishing(target) as part:
        add_xmp(joined)
        if sign is None:
            joined.replace(part)
            return
        sign(joined, part)
        if (decoded := count_frames(part)) != frames:
            raise EncodingFailed(f"The signed video has {decoded} frames instead of {frames}.")
    joined.unlink()


def check_disclosure(settings: Settings) -> None:
    """Refuse settings by which no video could be marked, before minutes of loading.

    Raises:
        InvalidSetting: videos cannot be labelled or signed as the settings say.
    """
    visible_label(settings)
    video_signer(settings)
