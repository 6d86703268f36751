"""Where the original weights are: every file of every preset, as data.

A catalog is a list of parts (the base transformer, the audio adapter of one or two speakers, the
LoRA of a preset, the encoders); a part has one or more sources, best first, and a source is the
files of one repository that make up the part. Nothing else is ever fetched from a repository.

What is not known is None, never invented: `infinitetalk weights check --resolve FILE` asks the hub
and writes the catalog again with every revision, size and hash filled in (see `catalog_file.py`).
Needs no torch.

The figures of `CATALOG` come from public material as of November 2026; comments say which: "hub" is
a page or commit of huggingface.co, "pins" are lists of pinned files in public code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from infinitetalk.errors import InvalidField
from infinitetalk.spec import PRESETS

NOT_KNOWN = "not known"  # of a dtype or a licence


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository."""

    path: str
    size: int | None = None  # bytes
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The files of one repository that make up a part."""

    name: str  # what `--source PART=NAME` calls it
    repo: str  # owner/name on the hub
    files: tuple[RemoteFile, ...]
    dtype: str  # of the tensors: float32, float16, bfloat16; "-" where there are none; NOT_KNOWN
    licence: str
    revision: str | None = None  # 40-hex commit; None: not pinned, the branch is followed
    branch: str = "main"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing a model is made of."""

    name: str  # base, audio, lora, text_encoder, image_encoder, vae, audio_encoder, tokenizer
    component: str  # the network it goes into (a name of convert.COMPONENTS), or "tokenizer"
    sources: tuple[Source, ...]  # best first; the next one is taken where a file is gone
    presets: tuple[str, ...] = ()  # that want it; empty: all that are not bundled
    speakers: int | None = None  # the variant it belongs to; None: both
    scale: float | None = None  # of a LoRA


@dataclass(frozen=True, slots=True)
class Catalog:
    """All parts, and the sizes of the networks where they are not the released ones."""

    parts: tuple[Part, ...]
    sizes: Mapping[str, Any] | None = None  # content of a model.json

    def needed(self, preset: str, speakers: int) -> tuple[Part, ...]:
        """The parts that make up a preset: none where its weights come with the package."""
        if PRESETS[preset].is_bundled:
            return ()
        return tuple(
            part
            for part in self.parts
            if (not part.presets or preset in part.presets) and part.speakers in (None, speakers)
        )


def with_sources(catalog: Catalog, chosen: Mapping[str, str]) -> Catalog:
    """The catalog with one source for each of some parts: if that fails, no other is tried.

    Args:
        chosen: names of parts -> names of sources. Where several parts bear a name (the LoRAs of
            two presets), those that have the source take it.

    Raises:
        InvalidField: there is no such part or source; the message has those there are.
    """
    for name, source in chosen.items():
        _check_choice(catalog, name, source)
    parts = (_narrowed(part, chosen.get(part.name)) for part in catalog.parts)
    return replace(catalog, parts=tuple(parts))


def _check_choice(catalog: Catalog, name: str, source: str) -> None:
    names = dict.fromkeys(part.name for part in catalog.parts)
    if name not in names:
        raise InvalidField(
            f"There is no part {name!r} of a model; there are {', '.join(names)}.", field="source"
        )
    found = (source for part in catalog.parts if part.name == name for source in part.sources)
    allowed = dict.fromkeys(source.name for source in found)
    if source not in allowed:
        raise InvalidField(
            f"{name} has no source {source!r}; there are {', '.join(allowed)}.", field="source"
        )


def _narrowed(part: Part, name: str | None) -> Part:
    found = tuple(source for source in part.sources if source.name == name)
    return replace(part, sources=found) if found else part


_LIGHTX2V = "lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"
_LIGHTX2V_SIZE = 738_005_744  # pins, of both repositories that have the file
_LIGHTX2V_SHA256 = "85c4a61c30e0497aa44b91d93a893b624708461a56fe5485183b28fa07e2dfb3"  # hub, pins


def _wan(dtype: str, *files: RemoteFile) -> Source:
    revision = "6b73f84e66371cdfe870c72acd6826e1d61cf279"  # pins
    return Source("official", "Wan-AI/Wan2.1-I2V-14B-480P", files, dtype, "Apache-2.0", revision)


def _adapter(speakers: int, file: RemoteFile) -> Part:
    revision = "d59847ebdacf19245bfca3fb23311c0cada8378a"  # pins
    repo = "MeiGen-AI/InfiniteTalk"
    source = Source("official", repo, (file,), "float32", "Apache-2.0", revision)
    return Part("audio", "transformer", (source,), speakers=speakers)


# Read on ModelScope, where Wan-AI has a copy; the hub's first and last hash are the same.
_SHARDS = tuple(
    RemoteFile(f"diffusion_pytorch_model-{number:05}-of-00007.safetensors", size, sha256)
    for number, (size, sha256) in enumerate(
        (
            (9_847_223_624, "09c0170242cfe9598208724585196ca18f294928fe25971149e1d7b37b3b51d6"),
            (9_797_021_016, "9e9dd8069241f0cbfe8f269e784e915ddaa7f177272b9850ae88c494d418c181"),
            (9_797_041_744, "22af36eb620c381d57a2dd5d5e3a001bf90ba0ca32f2d5013d6ca45225b11d5f"),
            (9_692_142_864, "5c2be0421b8df4a8e7dd31cdbb6489567438ae14b812b57518e43c6f4e49a755"),
            (9_692_142_864, "0ba7f3ab69f414f23e5566e607b9385a8f67907302cbaaf86507b3a826a20dda"),
            (9_692_142_864, "d7287e9233cbf67a75fce8ef8be24232ec93d6336f148972465db00008d69e28"),
            (7_061_933_536, "d1bc30f07b162c34b90e4ee4a349f81b6e1a3a342187ea9ea153c9e4dbb07676"),
        ),
        start=1,
    )
)

_BASE_BF16 = Source(
    "comfy",
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged",
    (
        RemoteFile(
            "split_files/diffusion_models/wan2.1_i2v_480p_14B_bf16.safetensors",
            32_789_894_024,  # hub: the commit that added the file
            "c058a4ac5363c35d1ab4dd3bdec788c23b267fa42a0d7c68aba599f2f74600c9",
        ),
    ),
    "bfloat16",
    "Apache-2.0",
    "8ddd6780aaba11a2a8eeb1039d8c6d54600ef9f1",  # hub: that commit
)

_LIGHTX2V_SOURCES = (
    Source(
        "kijai",
        "Kijai/WanVideo_comfy",
        (RemoteFile(f"Lightx2v/{_LIGHTX2V}", _LIGHTX2V_SIZE, _LIGHTX2V_SHA256),),
        "bfloat16",
        "not stated; extracted from weights of lightx2v, which are Apache-2.0",
        "8260d429d19fd7a72304cad059160b95d843913f",  # pins
    ),
    Source(  # the same file
        "comfy",
        "Comfy-Org/Wan-Animate-2",
        (RemoteFile(f"loras/{_LIGHTX2V}", _LIGHTX2V_SIZE, _LIGHTX2V_SHA256),),
        "bfloat16",
        NOT_KNOWN,
        "ed158470869ff31fa51cf56012dac33fb00f494b",  # pins
    ),
)

_FUSIONIX = Source(
    "official",
    "vrgamedevgirl84/Wan14BT2VFusioniX",
    # Not known for this repository; a duplicate of it on the hub has 371 MB here, sha256
    # 0eb5df85d5bc5fba32966de8b357c7643413219479605cc933412b60305c01f8.
    (RemoteFile("FusionX_LoRa/Wan2.1_I2V_14B_FusionX_LoRA.safetensors"),),
    NOT_KNOWN,
    "Apache-2.0; a merge whose author says that all ingredients are Apache-2.0 or MIT",  # hub
)

_SPEECH_SOURCES = (
    Source(  # the hub's own conversion, in a pull request
        "safetensors",
        "TencentGameMate/chinese-wav2vec2-base",
        (RemoteFile("model.safetensors"),),
        "float32",
        "MIT",
        "5f7a6cfdfc5440ec78748f79a9dd66f077c2b463",  # one list of pins
        branch="refs/pr/1",
    ),
    Source(
        "pickle",
        "TencentGameMate/chinese-wav2vec2-base",
        (
            RemoteFile(
                "pytorch_model.bin",
                380_261_837,  # pins
                "be2da40c9e7ae26bfc904a3ed79ebb9e8f060bec6dba85d6a6ae86114bc38901",
            ),
        ),
        "float32",
        "MIT",
        "3991242c806928916fff4a8c0e4f76acf661b743",  # hub: the head of main; pins
    ),
)

_TEXT = RemoteFile(  # pins, as the next two
    "models_t5_umt5-xxl-enc-bf16.pth",
    11_361_920_418,
    "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
)
_IMAGE = RemoteFile(
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    4_772_359_047,
    "628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38",
)
_VAE = RemoteFile(
    "Wan2.1_VAE.pth",
    507_609_880,
    "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
)
# Not known for this repository; that of Wan-AI/Wan2.1-T2V-1.3B has 16,837,417 bytes, sha256
# 6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b.
_TOKENIZER = RemoteFile("google/umt5-xxl/tokenizer.json")

CATALOG = Catalog(
    parts=(
        Part("base", "transformer", (_BASE_BF16, _wan("float32", *_SHARDS))),
        _adapter(1, RemoteFile("single/infinitetalk.safetensors", 9_948_708_152)),  # an article
        _adapter(2, RemoteFile("multi/infinitetalk.safetensors")),  # hub: 9.95 GB
        # The scales: FusioniX, --lora_scale 1.0 in the command of InfiniteTalk's README, which has
        # none of its own for lightx2v; lightx2v, "strength": 1.0 in its authors' configuration.
        Part("lora", "transformer", _LIGHTX2V_SOURCES, presets=("fast",), scale=1.0),
        Part("lora", "transformer", (_FUSIONIX,), presets=("standard",), scale=1.0),
        Part("text_encoder", "text_encoder", (_wan("bfloat16", _TEXT),)),
        Part("image_encoder", "image_encoder", (_wan("float32", _IMAGE),)),
        Part("vae", "vae", (_wan("float32", _VAE),)),
        Part("audio_encoder", "audio_encoder", _SPEECH_SOURCES),
        Part("tokenizer", "tokenizer", (_wan("-", _TOKENIZER),)),
    )
)
