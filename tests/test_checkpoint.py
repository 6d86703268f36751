"""What a checkpoint is worth something for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infinitetalk.checkpoint import Checkpoint, Identity, load_checkpoint, save_checkpoint

LABELLED = Identity("spec", "weights", "1.0", label="AI-generated")


@pytest.mark.parametrize("label", ["", "KI-generiert"])
def test_no_video_is_labelled_in_one_part_only(
    label: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(1, torch.zeros(3, 1, 2, 2)), LABELLED)
    assert load_checkpoint(path, replace(LABELLED, label=label)) is None
    assert "of another label" in caplog.text
    assert load_checkpoint(path, LABELLED) is not None
