"""Timesteps of flow matching and the Euler step between them.

t = 1000 is noise, t = 0 the video (Wan, arXiv 2503.20314; the shift is Esser et al. 2024,
arXiv 2403.03206, eq. 23).
"""

import torch
from torch import Tensor

NUM_TRAIN_TIMESTEPS = 1000


def timesteps(steps: int, shift: float) -> Tensor:
    """steps + 1 falling timesteps in float32, the last one 0.

    Evenly spaced from 1000 to 1 (not to 0), zero appended, shifted afterwards: larger shifts spend
    more steps on noisy latents.
    """
    t = torch.cat((torch.linspace(NUM_TRAIN_TIMESTEPS, 1, steps), torch.zeros(1)))
    t = t / NUM_TRAIN_TIMESTEPS
    return shift * t / (1 + (shift - 1) * t) * NUM_TRAIN_TIMESTEPS


def euler_step(latent: Tensor, prediction: Tensor, t: float, t_next: float) -> Tensor:
    """One step towards t_next; the network predicts the negative velocity."""
    return latent - prediction * ((t - t_next) / NUM_TRAIN_TIMESTEPS)


def add_noise(latent: Tensor, noise: Tensor, t: float) -> Tensor:
    """A clean latent at noise level t: the straight line between the two."""
    level = t / NUM_TRAIN_TIMESTEPS
    return (1 - level) * latent + level * noise
