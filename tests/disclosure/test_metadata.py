"""What a file says of itself, read by others than the one who wrote it."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import av

from infinitetalk import __version__
from infinitetalk.disclosure.metadata import DIGITAL_SOURCE_TYPE, add_xmp, tags, xmp_packet
from infinitetalk.spec import specify

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SECRET = specify("tiny", prompt="a secret wish", negative_prompt="a secret fear")


def described(packet: str) -> dict[str, str]:
    """The properties in an XMP packet."""
    [description] = ElementTree.fromstring(packet).iter(f"{RDF}Description")
    return dict(description.attrib)


def test_the_tags_say_it_in_words_and_for_machines() -> None:
    said = tags(SECRET, {"job": "7"})
    facts = json.loads(said["comment"])
    assert "AI-generated" in said["description"]
    assert facts["ai_generated"] is True
    assert facts["digital_source_type"] == DIGITAL_SOURCE_TYPE
    assert (facts["job"], facts["preset"], facts["version"]) == ("7", "tiny", __version__)


def test_nothing_of_the_prompt_is_in_the_file() -> None:
    assert "secret" not in str(tags(SECRET, {})) + xmp_packet()


def test_the_packet_names_iptcs_term_for_what_a_model_made() -> None:
    properties = described(xmp_packet())
    assert properties[f"{IPTC}DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert properties[f"{IPTC}AISystemUsed"] == "InfiniteTalk"


def test_a_player_finds_the_packet_and_the_video_as_it_was(joined: Path, tmp_path: Path) -> None:
    marked = Path(shutil.copy(joined, tmp_path))
    add_xmp(marked)
    assert marked.read_bytes().startswith(joined.read_bytes())
    with av.open(str(marked), options={"export_xmp": "1"}) as file:
        assert described(file.metadata["xmp"]) == described(xmp_packet())
        assert file.metadata["title"] == "x"
