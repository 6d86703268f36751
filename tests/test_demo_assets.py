"""The bundled portrait, sentence and tokenizer are what their scripts and their README say."""

import random
import string
from importlib.resources import as_file, files

import numpy as np
import pytest
import soundfile
from PIL import Image
from tokenizers import Tokenizer

from infinitetalk.demo.portrait import SIZE, draw_portrait
from infinitetalk.demo.tokenizer import SPECIALS, VOCABULARY, train_tokenizer
from infinitetalk.spec import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT

ASSETS = files("infinitetalk.demo").joinpath("assets")
END, UNKNOWN = 1, 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(ASSETS.joinpath("tokenizer.json").read_text("utf-8"))


def some_ascii() -> list[str]:
    chooser = random.Random(0)
    return ["".join(chooser.choices(string.printable, k=80)).lstrip() for _ in range(50)]


TEXTS = {
    "empty": "",
    "prompt": DEFAULT_PROMPT,
    "negative prompt": DEFAULT_NEGATIVE_PROMPT,
    "spaces": "two  spaces and one at the end ",
    "control": "tab\tnewline\nnull\0bell\a",
    "spelled byte": "<0x41><0xE6>",
    "german": "Ein fröhliches Mädchen, süß",
    "chinese": "画面模糊,低质量",
    "arabic": "شخص يتحدث",
    "emoji": "👩🏽‍🎤 sings 🎶",
    "last code point": "\U0010ffff",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_any_text_becomes_known_ids_that_end_the_sentence(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert ids[-1] == END
    assert END not in ids[:-1] and UNKNOWN not in ids
    assert tokenizer.decode(ids) == text


def test_every_ascii_text_comes_back(tokenizer: Tokenizer) -> None:
    for text in some_ascii():
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_ids_are_those_of_umt5(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(name) for name in SPECIALS] == [0, 1, 2, 3]
    assert SPECIALS == ("<pad>", "</s>", "<s>", "<unk>")
    assert tokenizer.get_vocab_size() == VOCABULARY


def test_common_words_are_not_spelled_out(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(DEFAULT_PROMPT).ids) <= 2 * len(DEFAULT_PROMPT.split())


def test_the_tokenizer_is_what_its_script_trains(tokenizer: Tokenizer) -> None:
    sentences = ASSETS.joinpath("sentences.txt").read_text("utf-8").splitlines()
    assert set(train_tokenizer(sentences).get_vocab()) == set(tokenizer.get_vocab())


def test_the_portrait_is_what_its_script_draws() -> None:
    with as_file(ASSETS.joinpath("portrait.png")) as path, Image.open(path) as picture:
        bundled = np.asarray(picture, dtype=np.int16)
    drawn = np.asarray(draw_portrait(SIZE), dtype=np.int16)
    assert bundled.shape == (SIZE, SIZE, 3)
    assert np.abs(bundled - drawn).mean() < 0.5  # Pillow's rasteriser may change by a hair


def test_a_portrait_of_any_size_is_the_same_drawing() -> None:
    small = np.asarray(draw_portrait(64), dtype=np.int16)
    large = draw_portrait(128).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(small - np.asarray(large, dtype=np.int16)).mean() < 2


def test_the_sentence_is_clear_mono_speech_of_a_few_seconds() -> None:
    with as_file(ASSETS.joinpath("speech.flac")) as path:
        samples, rate = soundfile.read(path)
    assert (rate, samples.ndim) == (22050, 1)
    assert 4 <= len(samples) / rate <= 5
    assert 0.5 < np.abs(samples).max() < 1


@pytest.mark.parametrize(
    ("name", "kilobytes"), [("portrait.png", 150), ("speech.flac", 200), ("tokenizer.json", 150)]
)
def test_the_assets_stay_small(name: str, kilobytes: int) -> None:
    assert len(ASSETS.joinpath(name).read_bytes()) < kilobytes * 1000


def test_the_origin_of_every_asset_is_recorded() -> None:
    record = ASSETS.joinpath("README.md").read_text("utf-8")
    for asset in ASSETS.iterdir():
        assert asset.name == "README.md" or f"`{asset.name}`" in record
