"""Which weights are stored in 8 bits, and in which form.

The linear layers inside the blocks: 98 % of the transformer's weights. What stays in high precision
is small, 0.3 GB in all of the 14B model, and costs accuracy beyond its size because everything
passes through it: embeddings of patches, time, text and image, the audio projection, norms,
modulation, biases and the head. Likewise the vocabulary of the text encoder, which is looked up and
never multiplied. `benchmarks/RESULTS.md` has the error of every kind of layer.

`X.weight` becomes e4m3 and `X.weight_scale` float32, one for every output row.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from infinitetalk.models.float8 import dequantize as dequantize
from infinitetalk.models.float8 import quantize_rows as quantize_rows
from infinitetalk.weights.convert import SCALE

_QUANTIZED: Mapping[str, str] = {
    "transformer": (
        r"blocks\.\d+\.(self_attn\.[qkvo]|cross_attn\.([qkvo]|[kv]_img)"
        r"|audio_cross_attn\.(q_linear|kv_linear|proj)|ffn\.[02])\.weight"
    ),
    "text_encoder": r"blocks\.\d+\.(attn\.[qkvo]|ffn\.(gate\.0|fc1|fc2))\.weight",
}


def is_quantized(key: str, component: str = "transformer") -> bool:
    """Whether the tensor of this original name is one of those stored in 8 bits."""
    pattern = _QUANTIZED.get(component)
    return pattern is not None and re.fullmatch(pattern, key) is not None


def quantized(key: str, weight: Tensor) -> dict[str, Tensor]:
    """The two tensors that a weight n k becomes, under their names in a prepared file."""
    values, scale = quantize_rows(weight)
    return {key: values, key + SCALE: scale}
