"""One forward by its parts."""

import pytest

from infinitetalk.acceptance.forward_parts import PARTS, time_forward
from infinitetalk.models.attention import sdpa
from infinitetalk.weights.load import Model
from tests.acceptance.subjects import Ticks


def test_the_parts_and_the_rest_make_up_the_whole(tiny_model: Model, ticks: Ticks) -> None:
    """Every part of each of the two blocks reads the clock twice, a tick apart."""
    forward = time_forward(tiny_model, 33, (48, 48), sdpa, ticks)
    assert forward.parts == dict.fromkeys(PARTS, 2.0)
    assert forward.whole == 2 * 2 * len(PARTS) + 1
    assert forward.rest == forward.whole - 2.0 * len(PARTS)


def test_a_slow_attention_shows_in_its_part_alone(tiny_model: Model, ticks: Ticks) -> None:
    def slow(q, k, v):  # type: ignore[no-untyped-def]
        ticks.seconds += 100
        return sdpa(q, k, v)

    forward = time_forward(tiny_model, 33, (48, 48), slow, ticks)
    assert forward.parts["self_attention"] == 202.0
    assert sum(forward.parts.values()) == 202.0 + 2.0 * (len(PARTS) - 1)
    assert "self-attention" in forward.verdict.detail


def test_nothing_is_left_on_the_model(tiny_model: Model, ticks: Ticks) -> None:
    time_forward(tiny_model, 33, (48, 48), sdpa, ticks)
    blocks = tiny_model.transformer.blocks
    hooks = [
        hook
        for module in blocks.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    assert hooks == []


def test_every_figure_has_the_name_of_its_part(tiny_model: Model, ticks: Ticks) -> None:
    figures = time_forward(tiny_model, 33, (48, 48), sdpa, ticks).figures
    names = ["whole", *PARTS, "rest"]
    assert [figure.name for figure in figures] == [f"forward.{name}" for name in names]
    assert figures[0].value == pytest.approx(sum(figure.value for figure in figures[1:]))
