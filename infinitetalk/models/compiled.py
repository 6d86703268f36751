"""A block of the transformer as one compiled graph.

Weights are inputs of the graph and the number of tokens is a variable, so one graph serves all
blocks, steps, branches, windows and picture sizes. A second one is made where two voices are told
apart, and one more for another attention backend. What lies between matrix products and attention
is fused: by the compiler, and on GPUs with 8-bit floating point by the kernels of row_kernels.py,
which it takes as they are. Matrix products and attention stay the libraries'.

Axes: b batch, n tokens, s tokens of the first frame, d width.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from infinitetalk.models.attention import BACKENDS, Attention, RotaryTable, cudnn, sdpa
from infinitetalk.models.block import Block, KeyValue
from infinitetalk.models.row_ops import PLAIN, RowOps

RunBlock = Callable[
    [
        Block,
        Tensor,
        Tensor,
        RotaryTable,
        KeyValue,
        KeyValue,
        KeyValue,
        Tensor | None,
        Attention,
    ],
    Tensor,
]
"""A block and its inputs (tokens first) to its output."""

Compiler = str | Callable[..., Any]
"""Name of a backend of `torch.compile`, or the backend itself."""

_TRACEABLE = (sdpa, cudnn)  # the compiler knows what these call


def run_block(
    block: Block,
    tokens: Tensor,
    time: Tensor,
    rotary: RotaryTable,
    text: KeyValue,
    image: KeyValue,
    audio: KeyValue,
    regions: Tensor | None,
    attention: Attention,
    ops: RowOps = PLAIN,
) -> Tensor:
    """The block as it is written."""
    out: Tensor = block(tokens, time, rotary, text, image, audio, regions, attention, ops)
    return out


def compiled(compiler: Compiler = "inductor", ops: RowOps = PLAIN) -> RunBlock:
    """`run_block` compiled; what it takes is compiled when it is first called."""
    from torch._dynamo import mark_dynamic  # takes a second to load

    graph = torch.compile(run_block, fullgraph=True, dynamic=False, backend=compiler)

    def run(
        block: Block,
        tokens: Tensor,
        time: Tensor,
        rotary: RotaryTable,
        text: KeyValue,
        image: KeyValue,
        audio: KeyValue,
        regions: Tensor | None,
        attention: Attention,
    ) -> Tensor:
        mark_dynamic(tokens, 1)
        for table in rotary:
            mark_dynamic(table, 0)
        if regions is not None:
            mark_dynamic(regions, 1)
        attend = attention if attention in _TRACEABLE else as_operator(attention.__name__)
        return graph(block, tokens, time, rotary, text, image, audio, regions, attend, ops)

    return run


@cache
def as_operator(backend: str) -> Attention:
    """An attention backend as one operator that the compiler does not look into."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _attention(q, k, v, backend)

    attend.__name__ = backend
    return attend


@torch.library.custom_op("infinitetalk::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
    return BACKENDS[backend](q, k, v).contiguous()


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, backend: str) -> Tensor:
    return q.new_empty(q.shape)
