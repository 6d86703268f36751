"""The parity command on golden folders of other seeds, sizes, block counts and window lengths."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from infinitetalk.models.audio_encoder import AudioEncoderConfig
from infinitetalk.models.image_encoder import ImageEncoderConfig
from infinitetalk.models.text_encoder import TextEncoderConfig
from infinitetalk.models.vae import VAEConfig
from infinitetalk.parity.__main__ import main
from tests.parity.made_cases import (
    DitSizes,
    Run,
    image_case,
    pipeline_case,
    speech_case,
    text_case,
    transformer_case,
    vae_case,
)

MADE: dict[str, Callable[[Path], None]] = {
    "three heads of 32": lambda golden: transformer_case(golden, DitSizes()),
    "one wide head": lambda golden: transformer_case(
        golden, DitSizes(dim=72, heads=1, layers=1, latent=(1, 6, 4), seed=7)
    ),
    "other audio": lambda golden: transformer_case(
        golden, DitSizes(audio_layers=3, audio_dim=4, tokens=2, text_len=20)
    ),
    "two voices": lambda golden: transformer_case(golden, DitSizes(heads=4), persons=2),
    "three blocks a level": lambda golden: vae_case(
        golden, VAEConfig(dim=4, dim_mult=(1, 1, 2, 2), num_res_blocks=3), frames=9, size=(16, 24)
    ),
    "one block a level": lambda golden: vae_case(
        golden, VAEConfig(dim=4, num_res_blocks=1), frames=17, size=(24, 16)
    ),
    "one layer of text": lambda golden: text_case(golden, TextEncoderConfig(50, 24, 16, 40, 2, 1)),
    "other buckets": lambda golden: text_case(golden, TextEncoderConfig(50, 24, 32, 40, 4, 4, 16)),
    "small picture": lambda golden: image_case(golden, ImageEncoderConfig(24, 3, 2, 5, 7, 28)),
    "a deep ear": lambda golden: speech_case(
        golden, AudioEncoderConfig(24, 8, 5, 2, 20, 16, 4), 20000
    ),
    "windows of 17": lambda golden: pipeline_case(
        golden,
        DitSizes(),
        {
            "plain": Run(),
            "audio": Run(audio=3.0, color=0.3, is_video=True),
            "text": Run(text=5.0, shift=7.0),
        },
    ),
    "windows of 9": lambda golden: pipeline_case(
        golden,
        DitSizes(dim=64, heads=2, layers=1, seed=3),
        {
            "duet": Run(9, 5, text=5.0, audio=4.0, speech=(14, 14), apg_threshold=10.0),
            "boxes": Run(9, 1, audio=2.0, speech=(14, 14), boxes=((0, 0, 40, 25), (4, 40, 36, 70))),
            "short": Run(9, 3, max_frames=11),
        },
        first_draw=98,
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_a_case_of_other_sizes_passes_and_a_changed_one_fails(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.inference_mode():
        MADE[name](tmp_path)
    assert main([str(tmp_path)]) == 0, capsys.readouterr().out
    made = sorted(tmp_path.glob("case_*"))[-1]
    outputs = load_file(made / "outputs.safetensors")
    outputs[max(outputs)].view(-1)[0] += 0.01
    save_file(outputs, made / "outputs.safetensors")
    assert main([str(tmp_path), "--case", made.name.removeprefix("case_")]) == 1
    assert max(outputs) in capsys.readouterr().out
