"""What is decided about memory, byte by byte."""

from dataclasses import replace

import pytest
import torch

from infinitetalk.spec import PRESETS
from infinitetalk.weights.device_memory import Memory
from infinitetalk.weights.footprint import Footprint
from infinitetalk.weights.memory_plan import MemoryPlan, plan_largest, plan_memory
from infinitetalk.weights.model_config import released_config
from infinitetalk.weights.text_placement import TextPlacement

GIB = 2**30
PLENTY = 1000 * GIB
MODEL = Footprint(
    PRESETS["standard"], released_config(), "fp8", torch.bfloat16, torch.device("cuda")
)
PLACES = list(TextPlacement)


def needed(resolution: str, place: TextPlacement) -> int:
    return MODEL.resident + MODEL.text_encoder(place).device + MODEL.window(resolution)


def plan(device: int, host: int = PLENTY, resolution: str = "480p", **options: str) -> MemoryPlan:
    return plan_memory(MODEL, resolution, Memory(device, host), **options)


@pytest.mark.parametrize("resolution", ["480p", "720p"])
@pytest.mark.parametrize(
    ("place", "host"),
    [(TextPlacement.DEVICE, 0), (TextPlacement.CPU, PLENTY), (TextPlacement.DEVICE_FP8, GIB)],
)
def test_the_text_encoder_goes_to_the_first_place_that_leaves_room(
    place: TextPlacement, host: int, resolution: str
) -> None:
    enough = needed(resolution, place)
    found = plan(enough, host, resolution=resolution)
    assert (found.text_encoder, found.fits, found.needed) == (place, True, enough)
    less = plan(enough - 1, host, resolution=resolution)
    assert (less.text_encoder, less.fits) != (place, True)


def test_pictures_are_decoded_in_tiles_before_the_text_encoder_is_moved() -> None:
    """With a transformer so small that the VAE's decode needs most."""
    config = released_config()
    small = replace(config.transformer, dim=1536, ffn_dim=8960, heads=12, layers=30)
    model = replace(MODEL, config=replace(config, transformer=small))
    weights = model.resident + model.text_encoder(TextPlacement.DEVICE).device
    whole, tiled = (weights + model.window("720p", tiles) for tiles in (1, 2))
    assert tiled < whole
    for free, tiles in ((whole, 1), (whole - 1, 2), (tiled, 2)):
        found = plan_memory(model, "720p", Memory(free, PLENTY))
        assert (found.text_encoder, found.tiles, found.fits) == (TextPlacement.DEVICE, tiles, True)


def test_tiles_are_not_chosen_where_they_do_not_help() -> None:
    assert plan(needed("720p", TextPlacement.CPU) - 1, resolution="720p").tiles == 1


def test_where_nothing_fits_the_smallest_need_is_told() -> None:
    found = plan(needed("480p", TextPlacement.CPU) - 1)
    assert (found.text_encoder, found.fits) == (TextPlacement.CPU, False)


def test_the_cpu_has_to_have_room_for_the_text_encoder_too() -> None:
    text = MODEL.text_encoder(TextPlacement.CPU).host
    enough = needed("480p", TextPlacement.CPU)
    assert plan(enough, text).fits
    assert not plan(enough, text - 1).fits


def test_a_plan_tells_what_the_first_place_would_need() -> None:
    everything = needed("480p", TextPlacement.DEVICE)
    assert plan(everything).instead_of is None
    assert plan(everything - 1).instead_of == everything
    assert plan(everything - 1, host=0).instead_of == everything


@pytest.mark.parametrize("place", PLACES)
def test_the_settings_have_the_last_word_on_the_place(place: TextPlacement) -> None:
    found = plan(PLENTY, text_encoder=place.value)
    assert (found.text_encoder, found.fits) == (place, True)
    assert not plan(needed("480p", place) - 1, text_encoder=place.value).fits


def test_on_a_cpu_there_is_one_place() -> None:
    model = replace(MODEL, device=torch.device("cpu"))
    found = plan_memory(model, "480p", Memory(GIB, GIB))
    assert (found.text_encoder, found.fits) == (TextPlacement.DEVICE, False)


@pytest.mark.parametrize(
    ("device", "resolution", "place", "fits"),
    [
        (PLENTY, "720p", TextPlacement.DEVICE, True),
        (needed("720p", TextPlacement.CPU), "720p", TextPlacement.CPU, True),
        (needed("480p", TextPlacement.CPU), "480p", TextPlacement.CPU, True),
        (GIB, "480p", TextPlacement.CPU, False),
    ],
)
def test_a_deployment_is_planned_for_the_largest_resolution_that_fits_somehow(
    device: int, resolution: str, place: TextPlacement, fits: bool
) -> None:
    found = plan_largest(MODEL, Memory(device, PLENTY))
    assert (found.resolution, found.text_encoder, found.fits) == (resolution, place, fits)


def test_a_plan_holds_its_resolution_and_smaller_ones() -> None:
    small, large = (plan(PLENTY, resolution=name) for name in ("480p", "720p"))
    assert [small.holds(name) for name in ("480p", "720p")] == [True, False]
    assert [large.holds(name) for name in ("480p", "720p")] == [True, True]


A_PLAN = MemoryPlan(
    preset="standard",
    precision="fp8",
    resolution="480p",
    text_encoder=TextPlacement.DEVICE,
    weights=30 * GIB,
    window=10 * GIB,
    on_host=0,
    free=Memory(44 * GIB, PLENTY),
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "fp8, everything resident: 30.0 GiB of weights and about 10.0 GiB for a window; "
            "fits in 44.0 GiB",
        ),
        ({"window": 20 * GIB}, "does not fit in 44.0 GiB"),
        (
            {"text_encoder": TextPlacement.DEVICE_FP8, "instead_of": 45 * GIB},
            "text encoder in fp8 (else it would need 45.0 GiB):",
        ),
        (
            {"text_encoder": TextPlacement.CPU, "on_host": 11 * GIB, "instead_of": 45 * GIB},
            "text encoder on the CPU (else it would need 45.0 GiB):",
        ),
        (
            {"text_encoder": TextPlacement.CPU, "is_forced": True},
            "text encoder on the CPU, as set:",
        ),
        ({"tiles": 2}, "everything resident, pictures decoded in 2 x 2 tiles: 30.0 GiB"),
    ],
)
def test_the_sentence_says_what_was_chosen_and_why(changes: dict[str, object], said: str) -> None:
    assert said in replace(A_PLAN, **changes).sentence  # type: ignore[arg-type]
