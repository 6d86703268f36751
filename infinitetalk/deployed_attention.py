"""Which attention backend this deployment takes: the setting, or what was measured on its GPU."""

from pathlib import Path

import torch

from infinitetalk import __version__
from infinitetalk.compile_cache import cache_folder, use_cache
from infinitetalk.conditioning import latent_size
from infinitetalk.config import Settings
from infinitetalk.errors import AttentionUnavailable
from infinitetalk.media.image import choose_bucket
from infinitetalk.models.attention import EIGHT_BIT_HEADS
from infinitetalk.models.attention_choice import Case, choose_attention, cuda_clock, try_backends
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.spec import specify

FILE = "attention.json"


def choices_file(settings: Settings, device: torch.device) -> Path:
    """Where what was measured on this GPU is kept, beside its compiled kernels."""
    return cache_folder(settings.home, device) / FILE


def deployed_attention(
    preset: str,
    config: TransformerConfig,
    settings: Settings,
    device: torch.device,
    dtype: torch.dtype,
) -> str:
    """The name of a backend; `auto` is measured at the preset's usual size, once for a GPU.

    Only bfloat16 on a GPU leaves a choice: all else goes to torch's SDPA, which `auto` then means.

    Raises:
        AttentionUnavailable: the setting names one that this model cannot have.
    """
    if settings.attention == "eight_bit" and config.head_dim not in EIGHT_BIT_HEADS:
        sizes = " or ".join(map(str, EIGHT_BIT_HEADS))
        raise AttentionUnavailable(
            f"The attention backend eight_bit takes heads of {sizes}; "
            f"those of {preset} are {config.head_dim}."
        )
    if settings.attention != "auto" or device.type != "cuda" or dtype != torch.bfloat16:
        return settings.attention
    grid = token_grid(preset, config)
    tokens = grid[0] * grid[1] * grid[2]
    gpu = torch.cuda.get_device_name(device)
    case = Case(gpu, torch.__version__, __version__, tokens, config.heads, config.head_dim)
    file = choices_file(settings, device)
    use_cache(settings.home, device)  # for those that are tried as well
    choice = choose_attention(
        case,
        file,
        lambda: try_backends(grid, config.heads, config.head_dim, device, cuda_clock),
    )
    return choice.name


def token_grid(preset: str, config: TransformerConfig) -> tuple[int, int, int]:
    """Tokens of a window of a square picture: frames, rows, columns."""
    spec = specify(preset)
    latent = latent_size(spec.window, choose_bucket(1, 1, spec.buckets))
    t, h, w = (size // patch for size, patch in zip(latent, config.patch, strict=True))
    return t, h, w
