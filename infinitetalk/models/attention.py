"""Attention backends, and the rotary embedding of queries and keys.

A backend is a plain function over (q, k, v), chosen by name and passed to whoever needs it; nothing
here changes a process-wide switch.

Axes: b batch, n query tokens, m key tokens, h heads, d head dimension.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.errors import AttentionUnavailable

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q: b n h d, k: b m h d, v: b m h d) -> b n h d, scaled by 1/sqrt(d), no mask."""

RotaryTable = tuple[Tensor, Tensor]
"""(cos, sin), each n d/2 (or b n d/2) in float32."""


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's scaled dot product attention: runs everywhere, torch picks the kernel."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def cudnn(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """cuDNN's fused attention, called by its operator so that no global preference is set."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False)[0]
    return out.transpose(1, 2)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The flash-attn package (Dao 2023, arXiv 2307.08691); half precision on CUDA only."""
    function = importlib.import_module("flash_attn").flash_attn_func
    return function(q, k, v)


def sage(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SageAttention (Zhang et al. 2024, arXiv 2410.02367): 8-bit scores, so not exact."""
    function = importlib.import_module("sageattention").sageattn
    return function(q, k, v.to(q.dtype), tensor_layout="NHD")


def eight_bit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Our 8-bit kernel (attention8.py): not exact; a compiler sees one operator."""
    return _eight_bit(q, k, v)


@torch.library.custom_op("infinitetalk::eight_bit_attention", mutates_args=())
def _eight_bit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    function: Attention = importlib.import_module("infinitetalk.models.attention8").attention
    return function(q, k, v)


@_eight_bit.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(q.shape)


BACKENDS: Mapping[str, Attention] = {
    "sdpa": sdpa,
    "cudnn": cudnn,
    "flash": flash,
    "sage": sage,
    "eight_bit": eight_bit,
}
_PACKAGES = {"flash": "flash_attn", "sage": "sageattention", "eight_bit": "triton"}
EIGHT_BIT_HEADS = (64, 128)  # sizes that its kernels are written for
_CAPABILITIES = {"eight_bit": (8, 9)}  # the first GPUs that multiply 8-bit floating point


def unavailable_reason(name: str, device: torch.device) -> str | None:
    """Why backend `name` cannot run on `device`, or None when it can."""
    if name not in BACKENDS:
        return f"there are only {', '.join(BACKENDS)}"
    if name == "sdpa":
        return None
    if device.type != "cuda":
        return "needs a CUDA device"
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        return f"the package {package} is not installed"
    if name == "cudnn" and not torch.backends.cudnn.is_available():
        return "this torch has no cuDNN"
    needed = _CAPABILITIES.get(name)
    if needed is not None and torch.cuda.get_device_capability(device) < needed:
        return f"needs a GPU of compute capability {needed[0]}.{needed[1]}"
    return None


def attention_backend(name: str, device: torch.device) -> Attention:
    """The backend called `name`; `auto` is SDPA, which every device has.

    Raises:
        AttentionUnavailable: the backend cannot run on this device.
    """
    name = "sdpa" if name == "auto" else name
    reason = unavailable_reason(name, device)
    if reason is not None:
        raise AttentionUnavailable(f"The attention backend {name} cannot run here: {reason}.")
    return BACKENDS[name]


def rotary_table(positions: Tensor, pairs: int) -> RotaryTable:
    """Angles of `positions` (n or b n): theta 10000 to the power -j/pairs for pair j."""
    exponents = torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs
    angles = positions.double()[..., None] * torch.pow(10000.0, -exponents)
    return angles.cos().float(), angles.sin().float()


def rotary_grid(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> RotaryTable:
    """3-D rotary table of a token grid (frames, rows, columns), token order t, h, w.

    The head is split into time, row and column pairs as Wan does: columns and rows take a third of
    the pairs each, rounded down, time the rest.
    """
    third = head_dim // 6
    pairs = (head_dim // 2 - 2 * third, third, third)
    axes = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    parts = [rotary_table(a.flatten(), p) for a, p in zip(axes, pairs, strict=True)]
    return torch.cat([c for c, _ in parts], 1), torch.cat([s for _, s in parts], 1)


def rotate(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate interleaved pairs of x (b n h d) by the angles of each token, in float32.

    Each value is written with its partner in the pair: compiled, that is one pass over x.
    """
    cos, sin = (part.repeat_interleave(2, -1).unsqueeze(-2) for part in table)  # for all heads
    sign = torch.arange(x.shape[-1], device=x.device) % 2 * 2 - 1
    values = x.float()
    partners = values.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (values * cos + partners * (sin * sign)).to(x.dtype)
