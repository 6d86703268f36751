"""The video VAE at full size (random weights), and what else is done to the frames of a window.

Weights are torch's own first draw, with the last layer of the decoder scaled so that pixels spread
over their range; clips and latents are smooth noise. Errors are against float32 without TF32.

python -m benchmarks.vae [--sizes 480p,720p] [--small]
"""

import argparse
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.device import DEVICE, allocated, collect, peak, wait
from benchmarks.results import record
from infinitetalk.models.vae import VAEConfig, VideoVAE
from infinitetalk.pipeline import to_uint8
from infinitetalk.sampling.color import match_color

SIZES = {"480p": 640, "720p": 960, "small": 32}
FRAMES = {"480p": 81, "720p": 81, "small": 17}
MOTION = 9
RUNS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the VAE."""

    name: str
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="480p,720p")
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    options = parser.parse_args()
    sizes = ["small"] if options.small else options.sizes.split(",")
    config = VAEConfig(dim=8) if options.small else VAEConfig()
    with torch.inference_mode():
        for size in sizes:
            record_vae(config, size, is_first=size == sizes[0])
        record_rest(sizes)


def record_vae(config: VAEConfig, size: str, *, is_first: bool) -> None:
    """A row for every variant; errors at the first size alone."""
    clip, latent = smooth(3, FRAMES[size], SIZES[size]), smooth_latent(size)
    truth = exact(config, clip, latent) if is_first else None
    rows = []
    for variant in variants(config):
        with reported(f"{size}, {variant.name}"):
            rows.append((variant.name, *measured(variant, clip, latent, truth)))
            print("row:", *rows[-1], flush=True)
    header = ("VAE", "encode, s", f"encode {MOTION}, s", "decode, s", "PSNR, dB", "latent", "GiB")
    note = (
        f"{FRAMES[size]} frames of {SIZES[size]}x{SIZES[size]}, batch 1; medians of {RUNS} after "
        "the first. PSNR of decoded pixels and relative error of the encoded latent against "
        "float32 without TF32; diffusers' float32 has TF32, torch's default for convolutions. "
        "GiB: peak of a decode beyond weights and input, the window's pixels included."
    )
    record(f"VAE, {size}", header, rows, note)


def record_rest(sizes: list[str]) -> None:
    """What happens to a window's frames between the VAE and the encoder of the video."""
    columns = []
    for size in sizes:
        frames = smooth(3, FRAMES[size], SIZES[size])[0]
        picture = frames[:, 0].clone()
        columns.append(
            {
                "colour match": median(lambda f=frames, p=picture: match_color(f, p, 1.0)),
                "to uint8, off the device": median(lambda f=frames: to_uint8(f)),
            }
        )
    rows = [(part, *(f"{1000 * column[part]:.1f}" for column in columns)) for part in columns[0]]
    note = f"ms, medians of {RUNS} after the first; all frames of a window."
    record("Frames of a window after the VAE", ("part", *sizes), rows, note)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """What fails is printed and costs nothing else."""
    try:
        yield
    except Exception:
        print(f"{what} failed:", traceback.format_exc(), flush=True)
    collect()


# -- what is run -------------------------------------------------------------------------------


def variants(config: VAEConfig) -> Iterator[Variant]:
    """One network at a time: each is made when its turn comes."""
    yield of_diffusers("diffusers, float32", random_vae(config))
    yield of_diffusers("diffusers, float16", random_vae(config).half())
    yield Variant("float32", (vae := random_vae(config)).encode, vae.decode)
    if DEVICE.type != "cuda":
        return  # float16 is for GPUs
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        yield Variant(
            f"{name}, not fused", (vae := random_vae(config).to(dtype)).encode, vae.decode
        )
    for tiles in (1, 2, 3):
        vae = random_vae(config).half()
        vae.fuse()
        vae.tiles = tiles
        name = "float16" if tiles == 1 else f"float16, {tiles} x {tiles} tiles"
        yield Variant(name, vae.encode, vae.decode)


def of_diffusers(name: str, vae: VideoVAE) -> Variant:
    """The library's own loop over the latent frames."""
    mean, std = (torch.tensor(v, device=DEVICE).view(-1, 1, 1, 1) for v in statistics_of(vae))

    def encode(clip: Tensor) -> Tensor:
        found = vae.net.encode(clip.to(vae.dtype)).latent_dist.mode()
        return (found.float() - mean) / std

    def decode(latent: Tensor) -> Tensor:
        return vae.net.decode((latent * std + mean).to(vae.dtype)).sample.float()

    return Variant(name, encode, decode)


def statistics_of(vae: VideoVAE) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return vae.config.mean, vae.config.std


def random_vae(config: VAEConfig) -> VideoVAE:
    """The same weights every time."""
    torch.manual_seed(0)
    with DEVICE:
        vae = VideoVAE(config).eval().requires_grad_(False)
    last = vae.net.decoder.conv_out
    scale = 0.4 / vae.decode(noise(16, 3, 24, 24)).std()
    last.weight.mul_(scale)
    last.bias.mul_(scale)
    return vae


def noise(channels: int, frames: int, height: int, width: int) -> Tensor:
    """Standard normal, smooth over a few frames and pixels: b c f h w."""
    generator = torch.Generator(DEVICE).manual_seed(1)
    coarse = (1, channels, frames // 4 + 2, height // 4, width // 4)
    values = torch.randn(coarse, device=DEVICE, generator=generator)
    return nn.functional.interpolate(values, (frames, height, width), mode="trilinear")


def smooth(channels: int, frames: int, side: int) -> Tensor:
    """A clip in [-1, 1]: b c f h w."""
    values = noise(channels, frames, side // 8, side // 8)
    values = nn.functional.interpolate(values, (frames, side, side), mode="trilinear")
    return values / values.abs().amax()


def smooth_latent(size: str) -> Tensor:
    side = SIZES[size] // 8
    return 1.5 * noise(16, 1 + (FRAMES[size] - 1) // 4, side, side)


def exact(config: VAEConfig, clip: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """Latent and pixels in float32."""
    vae = random_vae(config)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return vae.encode(clip), vae.decode(latent)


# -- what is measured --------------------------------------------------------------------------


def measured(
    variant: Variant, clip: Tensor, latent: Tensor, truth: tuple[Tensor, Tensor] | None
) -> tuple[str, ...]:
    """The cells of a row."""
    times = (
        median(lambda: variant.encode(clip)),
        median(lambda: variant.encode(clip[:, :, :MOTION])),
        median(lambda: variant.decode(latent)),
    )
    collect()
    before = allocated()
    pixels = variant.decode(latent)
    height = peak() - before
    errors = ("", "") if truth is None else compared(variant.encode(clip), pixels, truth)
    return (*(f"{spent:.3f}" for spent in times), *errors, f"{height:.2f}")


def compared(latent: Tensor, pixels: Tensor, truth: tuple[Tensor, Tensor]) -> tuple[str, str]:
    """PSNR of the pixels (their range is 2), relative error of the latent."""
    exact_latent, exact_pixels = truth
    noise_power = (pixels - exact_pixels).square().mean()
    error = (latent - exact_latent).norm() / exact_latent.norm()
    return f"{float(10 * torch.log10(4 / noise_power)):.1f}", f"{100 * float(error):.3f} %"


def median(function: Callable[[], object]) -> float:
    """Seconds of a call, by the clock, after a first one."""
    function()
    return statistics.median(timed(function) for _ in range(RUNS))


def timed(function: Callable[[], object]) -> float:
    wait()
    started = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
