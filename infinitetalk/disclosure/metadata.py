"""What the file says of itself: tags in words and JSON, and IPTC's term in an XMP packet.

Nothing of the request is in here but what the caller passes as labels: no prompt and no name.
XMP in mp4: Adobe's XMP specification, part 3; the terms: IPTC's photo and video metadata.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from infinitetalk import __version__
from infinitetalk.media.boxes import box
from infinitetalk.spec import GenerationSpec

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for what a trained model made: every pixel of ours, whatever it began with."""

MODEL = "InfiniteTalk"
XMP_BOX = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
_PACKET = "W5M0MpCehiHzreSzNTczkc9d"  # the same in every packet, for programs that search a file
_NAMESPACES = {
    "xmlns:rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmlns:xmp": "http://ns.adobe.com/xap/1.0/",
    "xmlns:Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


def tags(spec: GenerationSpec, labels: Mapping[str, str]) -> Mapping[str, str]:
    """Tags of the container: a sentence, and facts as JSON."""
    facts = {
        "ai_generated": True,
        "digital_source_type": DIGITAL_SOURCE_TYPE,
        "model": MODEL,
        "preset": spec.preset,
        **labels,
    }
    comment = json.dumps({**facts, "version": __version__})
    return {"description": f"AI-generated video ({MODEL})", "comment": comment}


def add_xmp(video: Path) -> None:
    """Append the XMP packet to an mp4 file; what is in it already stays where it is."""
    with video.open("ab") as file:
        file.write(box(b"uuid", XMP_BOX.bytes, xmp_packet().encode()))


def xmp_packet() -> str:
    """The packet: what the source is, and which program made the file."""
    properties = {
        "Iptc4xmpExt:DigitalSourceType": DIGITAL_SOURCE_TYPE,
        "Iptc4xmpExt:AISystemUsed": MODEL,
        "xmp:CreatorTool": f"infinitetalk {__version__}",
    }
    names = _attributes(_NAMESPACES)
    described = f'<rdf:Description rdf:about="" {_attributes(properties)}/>'
    return (
        f'<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="{_PACKET}"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {names}>{described}</rdf:RDF></x:xmpmeta>'
        '<?xpacket end="r"?>'
    )


def _attributes(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
