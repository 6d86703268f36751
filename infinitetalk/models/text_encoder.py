"""Prompt to text embedding: umT5 and its tokenizer.

Axes: l tokens, c channels.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import ftfy
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """Sizes of the text encoder; the defaults are umT5-XXL's."""

    vocab: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    heads: int = 64
    layers: int = 24
    buckets: int = 32
    max_distance: int = 128
    max_tokens: int = 512


def clean_prompt(text: str) -> str:
    """Repair mojibake, resolve HTML entities (also doubly escaped ones), collapse white space."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


class PromptTokenizer:
    """A `tokenizer.json` (umT5's, or the small one of the demo) cut to `max_tokens`."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def __call__(self, prompt: str) -> list[int]:
        """Token ids of the cleaned prompt, ending with </s>."""
        ids: list[int] = self._tokenizer.encode(clean_prompt(prompt)).ids
        return ids


class TextEncoder(nn.Module):
    """Encoder half of umT5 (every block has its own relative position table)."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.net = UMT5EncoderModel(
            UMT5Config(
                vocab_size=config.vocab,
                d_model=config.dim,
                d_kv=config.dim_attn // config.heads,
                d_ff=config.dim_ffn,
                num_layers=config.layers,
                num_heads=config.heads,
                relative_attention_num_buckets=config.buckets,
                relative_attention_max_distance=config.max_distance,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
            )
        )

    def forward(self, ids: list[int]) -> Tensor:
        """Token ids to 1 l c, unpadded: the transformer pads with zeros, not encoded padding."""
        device = next(self.parameters()).device
        return self.net(torch.tensor([ids], device=device)).last_hidden_state
