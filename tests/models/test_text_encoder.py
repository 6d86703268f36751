from pathlib import Path

import pytest
import torch

from infinitetalk.models.text_encoder import PromptTokenizer, TextEncoder, clean_prompt
from infinitetalk.weights.load import Model
from infinitetalk.weights.prepared import TOKENIZER

END = 1  # </s>, in umT5's vocabulary and in ours


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  two\t words \n", "two words"),
        ("&amp;amp; &lt;b&gt;", "& <b>"),
        ("cafÃ©", "café"),
        ("“quoted”", '"quoted"'),
        ("a\u00a0b\u3000c", "a b c"),
        ("", ""),
        (" \n ", ""),
        ("你好，世界", "你好,世界"),
    ],
)
def test_prompts_are_cleaned_as_the_original_does(text: str, cleaned: str) -> None:
    assert clean_prompt(text) == cleaned


@pytest.fixture
def tokenizer(tiny_model: Model) -> PromptTokenizer:
    return tiny_model.tokenizer


def test_a_prompt_ends_with_its_end_mark(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer("A person talks.")
    assert ids[-1] == END
    assert END not in ids[:-1]


def test_an_empty_prompt_is_the_end_mark_alone(tokenizer: PromptTokenizer) -> None:
    assert tokenizer("  ") == [END]


@pytest.mark.parametrize("limit", [2, 8, 512])
def test_a_prompt_cut_to_the_limit_keeps_its_end_mark(tiny_folder: Path, limit: int) -> None:
    whole, cut = (PromptTokenizer(tiny_folder / TOKENIZER, n)("word " * 600) for n in (4000, limit))
    assert len(cut) == limit
    assert cut == [*whole[: limit - 1], END]


@pytest.fixture
def encoder(tiny_model: Model) -> TextEncoder:
    return tiny_model.text_encoder


def test_there_is_a_row_for_every_token_and_none_for_padding(
    encoder: TextEncoder, tokenizer: PromptTokenizer
) -> None:
    ids = tokenizer("A person talks.")
    assert encoder(ids).shape == (1, len(ids), encoder.config.dim)


def test_every_block_has_its_own_position_table(encoder: TextEncoder) -> None:
    tables = [name for name, _ in encoder.named_parameters() if "relative_attention_bias" in name]
    assert len(tables) == encoder.config.layers


def test_far_tokens_are_told_apart_up_to_the_largest_distance(encoder: TextEncoder) -> None:
    attention = encoder.net.encoder.block[0].layer[0].SelfAttention
    bucket = attention._relative_position_bucket(torch.tensor([-127, -128, -500, 500]))
    assert bucket[1] == bucket[2]
    assert bucket[2] != bucket[3]
    assert bucket.max() == encoder.config.buckets - 1
