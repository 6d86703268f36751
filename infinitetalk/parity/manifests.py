"""Key manifests of the released checkpoints against our modules, full size, without memory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from infinitetalk.parity.case import Check
from infinitetalk.weights.convert import COMPONENTS, fit

FILES: Mapping[str, tuple[str, ...]] = {
    "transformer": ("wan21_i2v_14b_base", "infinitetalk_audio"),
    "vae": ("wan21_vae",),
    "text_encoder": ("umt5_xxl_encoder",),
    "image_encoder": ("clip_vit_h_visual", "clip_textual_and_scale_ignored"),
    "audio_encoder": ("wav2vec2_base",),
}


def manifest_checks(folder: Path) -> Iterator[Check]:
    """Every original key present with its shape, and nothing unused that is not allowed to be."""
    for component, names in FILES.items():
        shapes: dict[str, tuple[int, ...]] = {}
        listed: set[str] = set()
        for name in names:
            manifest = json.loads((folder / f"{name}.json").read_text())
            shapes |= {key: tuple(entry[0]) for key, entry in manifest["keys"].items()}
            listed |= set(manifest.get("unused", ()))
        found = fit(component, COMPONENTS[component].config(), shapes)
        problems = len(found.missing) + len(found.unexpected) + len(found.mismatched)
        yield Check(f"{component} ({len(shapes)} keys)", float(problems), 0.0)
        not_unused = len(listed - set(found.unused))
        yield Check(f"{component} listed as unused", float(not_unused), 0.0)
