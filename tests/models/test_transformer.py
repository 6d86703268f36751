"""The transformer: what its golden vectors cannot see, and what the pipeline relies on."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from infinitetalk.models.attention import rotary_table, sdpa
from infinitetalk.models.block import BACKGROUND_POSITION, Keys, region_map, speaker_positions
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer, timestep_features
from infinitetalk.models.transformer_config import TransformerConfig
from infinitetalk.weights.convert import build

CONFIG = TransformerConfig(
    dim=48,
    ffn_dim=64,
    heads=2,
    layers=2,
    freq_dim=16,
    text_dim=12,
    text_tokens=9,
    image_dim=20,
    audio_layers=2,
    audio_dim=6,
    audio_hidden=10,
    audio_token_dim=14,
    audio_tokens=3,
)
LATENT = (3, 4, 6)  # t h w: 18 tokens of 2 x 3 a frame
TOKENS = 6  # of a frame


@pytest.fixture(scope="module")
def network() -> InfiniteTalkTransformer:
    """Random weights, norms and biases included."""
    module = build("transformer", CONFIG)
    generator = torch.Generator().manual_seed(8)
    for name, parameter in module.named_parameters():
        fan_in = parameter.shape[1:].numel() if parameter.dim() > 1 else 16
        parameter.normal_(std=fan_in**-0.5, generator=generator)
        parameter += 1 if "norm" in name and name.endswith("weight") else 0
    assert isinstance(module, InfiniteTalkTransformer)
    return module


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def audio(persons: int = 1, batch: int = 1, seed: int = 1) -> Tensor:
    return draw(batch, persons, 9, 5, 2, 6, seed=seed)


def halves() -> Tensor:
    """Left third, right third and what is between, over the tokens of a frame."""
    columns = torch.arange(TOKENS) % 3
    return torch.stack((columns == 0, columns == 2, columns == 1)).float()


def condition(
    network: InfiniteTalkTransformer,
    windows: Tensor,
    *,
    text: Tensor | None = None,
    regions: Tensor | None = None,
) -> Conditioning:
    batch = windows.shape[0]
    text = draw(batch, 7, 12, seed=2) if text is None else text
    return Conditioning(
        draw(batch, 20, *LATENT, seed=3),
        network.rotary(LATENT),
        network.text_keys(text),
        network.image_keys(draw(batch, 5, 20, seed=4)),
        network.audio_keys(windows),
        regions,
    )


def predict(
    network: InfiniteTalkTransformer,
    conditioning: Conditioning,
    time: float = 500.25,
    batch: int = 1,
) -> Tensor:
    latent = draw(batch, 16, *LATENT, seed=5)
    return network(latent, torch.full((batch,), time), conditioning, sdpa)


def row(keys: Keys, part: slice) -> Keys:
    return tuple(type(pair)(pair.k[part], pair.v[part]) for pair in keys)


def test_norms_have_the_eps_of_the_original(network: InfiniteTalkTransformer) -> None:
    eps = {name: m.eps for name, m in network.named_modules() if hasattr(m, "eps")}
    assert {eps.pop("img_emb.proj.0"), eps.pop("img_emb.proj.4"), eps.pop("audio_proj.norm")} == {
        1e-5
    }
    assert len(eps) == CONFIG.layers * 8 + 1  # norm3, norm_x, five RMS norms, the block; the head
    assert set(eps.values()) == {1e-6}


def test_another_eps_reaches_the_blocks_and_the_head_only() -> None:
    module = build("transformer", replace(CONFIG, eps=1e-3), "meta")
    found = {m.eps for m in module.modules() if isinstance(m, nn.LayerNorm)}
    assert found == {1e-3, 1e-5}


def test_times_are_fractional() -> None:
    whole, part = timestep_features(torch.tensor([500.0, 500.25]), 16)
    assert (whole - part).abs().max() > 0.1


def test_times_are_exact_where_float32_would_not_be() -> None:
    angle = torch.tensor([999.9375], dtype=torch.float64)
    features = timestep_features(angle.float(), 256)
    assert torch.allclose(features[0, 0].double(), angle.cos()[0], atol=1e-7)


def test_cached_keys_are_the_recomputed_ones(network: InfiniteTalkTransformer) -> None:
    """After a whole forward, and for each block from its own weights."""
    conditioning = condition(network, audio())
    predict(network, conditioning)
    again = condition(network, audio())
    for kind in ("text", "image", "audio"):
        for kept, fresh in zip(getattr(conditioning, kind), getattr(again, kind), strict=True):
            assert torch.equal(kept.k, fresh.k)
            assert torch.equal(kept.v, fresh.v)


def test_every_block_has_keys_of_its_own(network: InfiniteTalkTransformer) -> None:
    conditioning = condition(network, audio())
    for keys in (conditioning.text, conditioning.image, conditioning.audio):
        assert len(keys) == CONFIG.layers
        assert not torch.equal(keys[0].k, keys[1].k)


def test_short_text_is_padded_with_zeros_that_are_attended(
    network: InfiniteTalkTransformer,
) -> None:
    text = draw(1, 4, 12, seed=6)
    padded = torch.cat((text, torch.zeros(1, 5, 12)), 1)
    short, full = network.text_keys(text), network.text_keys(padded)
    assert short[0].k.shape[1] == CONFIG.text_tokens
    assert torch.equal(short[1].v, full[1].v)
    assert short[0].v[:, 4:].abs().max() > 0.1  # biases: padding is not nothing


@pytest.mark.parametrize("changed", ["text", "image", "audio", "latent"])
def test_every_condition_reaches_the_prediction(
    network: InfiniteTalkTransformer, changed: str
) -> None:
    conditioning = condition(network, audio())
    other = {
        "text": network.text_keys(draw(1, 7, 12, seed=20)),
        "image": network.image_keys(draw(1, 5, 20, seed=20)),
        "audio": network.audio_keys(audio(seed=20)),
        "latent": draw(1, 20, *LATENT, seed=20),
    }[changed]
    moved = predict(network, replace(conditioning, **{changed: other}))  # type: ignore[arg-type]
    assert (moved - predict(network, conditioning)).abs().max() > 1e-3


def test_tokens_hear_the_audio_of_their_own_frame_only(network: InfiniteTalkTransformer) -> None:
    attend = network.blocks[0].audio_cross_attn
    tokens = draw(1, 3 * TOKENS, 48, seed=9)
    windows, other = audio(), audio()
    other[:, :, 1:5] += 1  # the frames of latent frame 1
    before, after = (attend(tokens, network.audio_keys(w)[0], None) for w in (windows, other))
    changed = (before - after).abs().amax(-1).view(3, TOKENS) > 0
    assert changed.any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("persons", [1, 2])
def test_a_batch_of_two_is_two_batches_of_one(
    network: InfiniteTalkTransformer, persons: int
) -> None:
    regions = halves() if persons == 2 else None
    both = condition(network, audio(persons, batch=2), regions=regions)
    together = predict(network, both, batch=2)
    for index in range(2):
        one, frames = slice(index, index + 1), slice(3 * index, 3 * index + 3)
        alone = replace(
            both,
            latent=both.latent[one],
            text=row(both.text, one),
            image=row(both.image, one),
            audio=row(both.audio, frames),
        )
        latent = draw(2, 16, *LATENT, seed=5)[one]
        wanted = network(latent, torch.tensor([500.25]), alone, sdpa)
        assert torch.allclose(together[one], wanted, atol=1e-5)


def test_each_batch_entry_can_be_at_a_time_of_its_own(network: InfiniteTalkTransformer) -> None:
    conditioning = condition(network, audio(batch=2))
    latent = draw(2, 16, *LATENT, seed=5)
    together = network(latent, torch.tensor([900.0, 20.0]), conditioning, sdpa)
    late = network(latent, torch.tensor([20.0, 20.0]), conditioning, sdpa)
    assert torch.allclose(together[1], late[1], atol=1e-6)
    assert not torch.allclose(together[0], late[0], atol=1e-2)


def test_bfloat16_stays_close_to_float32(network: InfiniteTalkTransformer) -> None:
    """Within the tolerance of the golden cases; the relative error is 4e-3 here."""
    exact = build("transformer", CONFIG)
    exact.load_state_dict({k: t.bfloat16().float() for k, t in network.state_dict().items()})
    half = build("transformer", CONFIG).bfloat16()
    half.load_state_dict(network.state_dict())
    wanted, got = (predict(n, condition(n, audio())) for n in (exact, half))
    assert got.dtype == torch.float32
    assert (got - wanted).norm() / wanted.norm() < 1.5e-2


def test_time_is_embedded_in_float32_whatever_the_weights_are(
    network: InfiniteTalkTransformer,
) -> None:
    half = build("transformer", CONFIG).bfloat16()
    half.load_state_dict(network.state_dict())
    embedding = half.embed_time(torch.tensor([3.25]))
    assert embedding.blocks.dtype == embedding.head.dtype == torch.float32
    assert embedding.blocks.shape == (1, 6, 48)


def test_the_backend_given_is_the_one_used_and_for_self_attention_alone(
    network: InfiniteTalkTransformer,
) -> None:
    calls: list[torch.Size] = []

    def counting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(k.shape)
        return sdpa(q, k, v)

    conditioning = condition(network, audio())
    latent = draw(1, 16, *LATENT, seed=5)
    prediction = network(latent, torch.tensor([500.25]), conditioning, counting)
    assert calls == [(1, 3 * TOKENS, 2, 24)] * CONFIG.layers
    assert torch.equal(prediction, predict(network, conditioning))


def test_the_region_map_is_the_attention_each_region_of_the_first_frame_gets() -> None:
    q, k = draw(1, 18, 2, 8, seed=10), draw(1, 18, 2, 8, seed=11)
    regions = halves()
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k[:, :TOKENS]) / 8**0.5
    wanted = torch.einsum("bhnm,rm->brnh", scores.softmax(-1), regions / regions.sum(1, True))
    assert torch.allclose(region_map(q, k, regions), wanted.mean(-1), atol=1e-6)


def test_swapping_the_regions_swaps_their_maps() -> None:
    q, k = draw(1, 18, 2, 8, seed=10), draw(1, 18, 2, 8, seed=11)
    looks = region_map(q, k, halves())
    swapped = region_map(q, k, halves()[[1, 0, 2]])
    assert torch.equal(swapped, looks[:, [1, 0, 2]])


def test_a_token_gets_the_position_of_the_region_it_looks_at_most() -> None:
    looks = torch.tensor([[[0.9, 0.0, 0.5, 0.2], [0.1, 0.8, 0.4, 0.0], [0.0, 0.1, 0.6, 0.9]]])
    positions = speaker_positions(looks)[0]
    assert torch.allclose(positions, torch.tensor([4.0, 24.0, 12.0, 12.0]), atol=1e-6)


def test_positions_lie_in_the_range_of_their_speaker_and_swap_with_the_persons() -> None:
    looks = draw(1, 3, 40, seed=12).softmax(1)
    region, positions = looks.argmax(1)[0], speaker_positions(looks)[0]
    swapped = speaker_positions(looks[:, [1, 0, 2]])[0]
    for person, start in ((0, 0.0), (1, 20.0)):
        own = positions[region == person]
        assert ((own >= start) & (own <= start + 4)).all()
    assert torch.allclose(swapped[region == 0], positions[region == 0] + 20)
    assert torch.allclose(swapped[region == 1], positions[region == 1] - 20)
    assert (positions[region == 2] == BACKGROUND_POSITION).all()
    assert torch.equal(swapped[region == 2], positions[region == 2])


def test_keys_of_the_second_voice_follow_those_of_the_first_at_their_positions(
    network: InfiniteTalkTransformer,
) -> None:
    """Swapping the persons swaps the halves, but for the rotation to their positions."""
    windows = audio(persons=2)
    keys, swapped = network.audio_keys(windows)[0], network.audio_keys(windows[:, [1, 0]])[0]
    first, second = keys.v.chunk(2, dim=1)
    assert torch.allclose(swapped.v, torch.cat((second, first), 1), atol=1e-6)
    turned = torch.stack([rotary_table(torch.tensor([20.0]), 12)[i] for i in (0, 1)])
    angle = torch.complex(turned[0], turned[1])
    numbers = torch.view_as_complex(keys.k[:, :3].unflatten(-1, (12, 2)).contiguous())
    moved = torch.view_as_real(numbers * angle).flatten(-2)
    assert torch.allclose(swapped.k[:, 3:], moved, atol=1e-5)


def test_voices_go_to_their_regions(network: InfiniteTalkTransformer) -> None:
    """Swapped boxes route the voices the other way, and so does a swap of the voices."""
    plain = condition(network, audio(persons=2), regions=halves())
    boxes = replace(plain, regions=halves()[[1, 0, 2]])
    voices = replace(plain, audio=network.audio_keys(audio(persons=2)[:, [1, 0]]))
    predictions = [predict(network, c) for c in (plain, boxes, voices)]
    for i, one in enumerate(predictions):
        for other in predictions[i + 1 :]:
            assert (one - other).abs().max() > 1e-3


def test_one_voice_has_no_positions_and_no_map(network: InfiniteTalkTransformer) -> None:
    x = draw(1, 18, 48, seed=13)
    _, looks = network.blocks[0].self_attn(x, network.rotary(LATENT), sdpa, None)
    assert looks is None
