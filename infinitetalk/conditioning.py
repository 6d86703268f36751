"""What the windows of a job are conditioned on: picture, text, voices and regions, encoded once.

A still picture, the prompts and silence give the same keys and values in every window: they are
computed at the first one and kept. The condition frame of a video changes with the window.

Axes: b batch (1), p persons, c channels, f video frames, t latent frames, h w size, s tokens of a
frame, w window entries, l encoder layers. Pixels in [-1, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from infinitetalk.media.image import cover_crop, nearest
from infinitetalk.media.regions import latent_masks, region_masks
from infinitetalk.models.block import Keys
from infinitetalk.models.image_encoder import ImageEncoder
from infinitetalk.models.transformer import Conditioning, InfiniteTalkTransformer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.sampling.guidance import Branch
from infinitetalk.sampling.windows import Window
from infinitetalk.spec import VAE_STRIDE_SPACE, VAE_STRIDE_TIME, GenerationSpec
from infinitetalk.speech import Speech

Size = tuple[int, int]


class Scene(Protocol):
    """What the video shows: a still picture, or a video at 25 fps."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def is_still(self) -> bool: ...

    def frame(self, index: int) -> np.ndarray:
        """Frame `index`, or the last one past the end: uint8 h w 3. Indices never fall."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A still picture as a scene."""

    pixels: np.ndarray  # uint8 h w 3
    is_still: bool = True

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def frame(self, index: int) -> np.ndarray:
        return self.pixels


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded prompts, b l c; the negative one only where a branch needs it."""

    positive: Tensor
    negative: Tensor | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A window, and the rows of every person's speech that it hears."""

    window: Window
    rows: tuple[Tensor, ...]  # person: f w


@dataclass(frozen=True, slots=True)
class View:
    """A condition frame, encoded."""

    latent: Tensor  # b 20 t h w: mask and latent
    keys: Keys

    @property
    def first_frame(self) -> Tensor:
        """Latent of the frame alone: the encoder is causal, so what follows does not matter."""
        return self.latent[:, VAE_STRIDE_TIME:, :1]


def to_pixels(image: np.ndarray, device: torch.device) -> Tensor:
    """uint8 h w 3 to 3 h w in [-1, 1]."""
    return torch.tensor(image, device=device).permute(2, 0, 1).float() / 127.5 - 1


def latent_size(frames: int, size: Size) -> tuple[int, int, int]:
    """(t, h, w) of the latent of `frames` frames of a size in pixels."""
    t = 1 + (frames - 1) // VAE_STRIDE_TIME
    return t, size[0] // VAE_STRIDE_SPACE, size[1] // VAE_STRIDE_SPACE


class Conditioner:
    """Conditionings for the windows of one job."""

    def __init__(
        self,
        transformer: InfiniteTalkTransformer,
        vae: VideoVAE,
        image_encoder: ImageEncoder,
        spec: GenerationSpec,
        scene: Scene,
        texts: Texts,
        voices: Sequence[Speech],
        size: Size,
    ) -> None:
        self._transformer = transformer
        self._vae = vae
        self._image_encoder = image_encoder
        self._window = spec.window
        self._scene = scene
        self._voices = voices
        self._size = size
        self.device = transformer.patch_embedding.weight.device
        self.latent_size = latent_size(spec.window, size)
        self._rotary = transformer.rotary(self.latent_size)
        negative = texts.negative
        self._text = {
            True: transformer.text_keys(texts.positive),
            False: None if negative is None else transformer.text_keys(negative),
        }
        self._silence: Keys | None = None
        self._regions = self._token_regions(spec)
        self._view: View | None = None

    def pixels(self, index: int) -> Tensor:
        """Frame `index` of the scene cut to the bucket, 3 h w."""
        return to_pixels(cover_crop(self._scene.frame(index), self._size), self.device)

    def view(self, start: int) -> View:
        """The condition frame of a window starting at `start`."""
        if self._view is None or not self._scene.is_still:
            frame = self.pixels(start)
            clip = torch.zeros((1, 3, self._window, *self._size), device=self.device)
            clip[:, :, 0] = frame
            keys = self._transformer.image_keys(self._image_encoder(frame[None]))
            self._view = View(with_mask(self._vae.encode(clip)), keys)
        return self._view

    def window(
        self, heard: Heard, view: View, branches: Sequence[Branch]
    ) -> Mapping[Branch, Conditioning]:
        """Conditioning of every branch of a window; they share all that is equal between them."""
        speech = self._speech(heard)
        audio = self._transformer.audio_keys(speech)
        return {branch: self._branch(branch, view, audio, speech) for branch in branches}

    def _branch(self, branch: Branch, view: View, audio: Keys, speech: Tensor) -> Conditioning:
        text = self._text[branch.has_text]
        assert text is not None, "the negative prompt was not encoded"
        if branch.has_audio:
            return Conditioning(view.latent, self._rotary, text, view.keys, audio, self._regions)
        # silence is one person even in a duet, and then there is nothing to tell apart
        return Conditioning(view.latent, self._rotary, text, view.keys, self._silent(speech))

    def _speech(self, heard: Heard) -> Tensor:
        """b p f w l c."""
        voices = zip(self._voices, heard.rows, strict=True)
        return torch.stack([voice.rows(rows).to(self.device) for voice, rows in voices])[None]

    def _silent(self, speech: Tensor) -> Keys:
        if self._silence is None:
            self._silence = self._transformer.audio_keys(torch.zeros_like(speech[:, :1]))
        return self._silence

    def _token_regions(self, spec: GenerationSpec) -> Tensor | None:
        """Region masks over the tokens of a frame, 3 s; None with one voice."""
        if len(self._voices) == 1:
            return None
        scene = self._scene
        masks = region_masks(scene.height, scene.width, spec.boxes, len(self._voices))
        latent = latent_masks(masks, self._size, self.latent_size[1:])
        _, rows, columns = self._transformer.token_grid(self.latent_size)
        return torch.from_numpy(nearest(latent, (rows, columns))).to(self.device).float().flatten(1)


def with_mask(latent: Tensor) -> Tensor:
    """Prepend the 4 mask channels: ones where a frame is given, which is the first."""
    mask = torch.zeros_like(latent[:, :VAE_STRIDE_TIME])
    mask[:, :, 0] = 1
    return torch.cat((mask, latent), dim=1)
