"""The full-size model with random weights, drawn on the device that is measured.

Stands in for prepared weights where none can be had: sizes, arithmetic and places are those of a
loaded model, and so are times and memory. What it renders is noise.
"""

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.config import Settings
from infinitetalk.errors import DeviceTooSmall
from infinitetalk.models.float8 import float8_kernel
from infinitetalk.models.text_encoder import PromptTokenizer
from infinitetalk.runner import Loading, OnPart, Runner
from infinitetalk.spec import PRESETS
from infinitetalk.weights.convert import COMPONENTS, arrange, build, is_scale, to_original
from infinitetalk.weights.device_memory import free_memory, limit_memory
from infinitetalk.weights.footprint import Footprint
from infinitetalk.weights.load import Model, Placement, placements
from infinitetalk.weights.locate import Located, choose_arithmetic
from infinitetalk.weights.memory_plan import plan_largest
from infinitetalk.weights.model_config import ModelConfig, released_config
from infinitetalk.weights.prepared import BF16, FP8, TOKENIZER, Manifest
from infinitetalk.weights.quantize import is_quantized
from infinitetalk.weights.synthetic import model_config, random_weights


def drawing(preset: str, settings: Settings, device: torch.device) -> Callable[[OnPart], Runner]:
    """A way to load a preset: as `Runner.load`, but its weights are drawn.

    Prompts are encoded for every job: what random weights make of them is not to be kept.
    """

    def load(on_part: OnPart) -> Runner:
        on_part(Loading.WEIGHTS)
        model, weights = draw(preset, settings, device)
        return Runner.of(model, weights, settings, on_part=on_part)

    return load


def draw(preset: str, settings: Settings, device: torch.device) -> tuple[Model, Located]:
    """The model of a preset as this device's memory holds it.

    Raises:
        DeviceTooSmall: it does not.
    """
    limit_memory(device, settings.memory_gigabytes)
    config = model_config(preset) if PRESETS[preset].is_bundled else released_config()
    precision = FP8 if settings.precision == FP8 else BF16
    arithmetic = choose_arithmetic(settings.precision, device)
    footprint = Footprint(PRESETS[preset], config, precision, arithmetic, device)
    free = free_memory(device, settings.memory_gigabytes)
    plan = plan_largest(footprint, free, settings.text_encoder)
    if not plan.fits:
        raise DeviceTooSmall(plan.sentence)
    print(plan.sentence, flush=True)
    manifest = Manifest(preset, precision, speakers=1, recipe="drawn", files={})
    model = draw_model(config, manifest, placements(arithmetic, device, plan.text_encoder))
    return model, Located(Path("drawn"), manifest, plan)


def draw_model(config: ModelConfig, manifest: Manifest, places: dict[str, Placement]) -> Model:
    """All networks, each where it belongs and in its arithmetic."""
    networks: dict[str, Any] = {}
    for name in COMPONENTS:
        is_fp8 = places[name].is_quantized or (name == "transformer" and manifest.precision == FP8)
        networks[name] = draw_network(name, getattr(config, name), places[name], is_fp8=is_fp8)
    with as_file(files("infinitetalk.demo") / "assets" / TOKENIZER) as path:
        tokenizer = PromptTokenizer(path, config.text_encoder.max_tokens)
    device = places["transformer"].device
    return Model(**networks, tokenizer=tokenizer, device=device, manifest=manifest)


def draw_network(name: str, sizes: Any, place: Placement, *, is_fp8: bool) -> nn.Module:
    """One network; the same numbers in 8 bits and in 16."""
    shapes = to_original(name, sizes, build(name, sizes, "meta").state_dict())
    float8 = {key for key in shapes if is_fp8 and is_quantized(key, name)}
    network = build(name, sizes, "meta", float8=float8, kernel=float8_kernel(place.device))
    drawn = random_weights(name, shapes, is_fp8=is_fp8, device=place.device)

    def kept(key: str, tensor: Tensor) -> Tensor:
        return tensor if key in float8 or is_scale(key) else tensor.to(place.dtype)

    weights = {key: kept(key, drawn.pop(key)) for key in list(drawn)}
    network.load_state_dict(arrange(name, sizes, network, weights), strict=True, assign=True)
    if place.device.type == "cuda":
        torch.cuda.empty_cache()  # what was drawn and rounded, in sizes that nothing else has
    return network.to(place.device)
