"""What ran on the GPU, kernel by kernel, and which part of the transformer it belongs to."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

_PRODUCT = re.compile(r"gemm|nvjet|cutlass|matmul|scaled_mm", re.IGNORECASE)
_ATTENTION = re.compile(r"sdpa|fmha|flash|attention|attn", re.IGNORECASE)
_WRITTEN = re.compile(r"triton_")  # by the compiler: norms and the like, whatever the name holds

_SPAN = re.compile(r"##|Torch-Compiled|ProfilerStep")  # what torch draws over its kernels


class Kernel(NamedTuple):
    """One kernel that ran."""

    name: str
    start: float  # seconds
    seconds: float

    @property
    def is_anchor(self) -> bool:
        """Whether it is a matrix product or an attention."""
        if _WRITTEN.match(self.name):
            return False
        return bool(_PRODUCT.search(self.name) or _ATTENTION.search(self.name))


def recorded_kernels(function: Callable[[], object]) -> list[Kernel]:
    """The kernels of a call, in the order in which they ran."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        function()
        torch.cuda.synchronize()
    kernels = [
        Kernel(event.name, event.time_range.start / 1e6, event.time_range.elapsed_us() / 1e6)
        for event in profiler.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA and not _SPAN.match(event.name)
    ]
    return sorted(kernels, key=lambda kernel: kernel.start)


def blocks_breakdown(
    kernels: Sequence[Kernel], parts: Sequence[str], blocks: int
) -> Iterator[tuple[str, float]]:
    """Seconds of each part of all blocks together, then of what is between and around them.

    Args:
        parts: names of a block's products and attentions in the order in which they run.
    """
    anchors = [kernel for kernel in kernels if kernel.is_anchor]
    # the first product of the first block is the one before the longest kernels, the attentions
    longest = max(kernel.seconds for kernel in anchors)
    first = next(i for i, kernel in enumerate(anchors) if kernel.seconds > longest / 2) - 1
    inside = anchors[first : first + blocks * len(parts)]
    for index, part in enumerate(parts):
        yield part, sum(kernel.seconds for kernel in inside[index :: len(parts)])
    begin, end = inside[0].start, inside[-1].start + inside[-1].seconds
    between = [k for k in kernels if begin <= k.start < end and not k.is_anchor]
    outside = [k for k in kernels if not begin <= k.start < end]
    yield "norms, rotary, gates, GELU, 8 bits", sum(kernel.seconds for kernel in between)
    yield "outside the blocks", sum(kernel.seconds for kernel in outside)
    busy = sum(kernel.seconds for kernel in kernels)
    yield "gaps", kernels[-1].start + kernels[-1].seconds - kernels[0].start - busy
