"""Every attention backend of a device at the shape of the model's self-attention.

Measured as a deployment chooses by the setting `auto`, and judged by the same limits. It recommends
and changes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infinitetalk.acceptance.device_clock import Clock
from infinitetalk.acceptance.report import Figure, Trial, Verdict
from infinitetalk.conditioning import Size, latent_size
from infinitetalk.models import attention_choice
from infinitetalk.models.attention import BACKENDS, Attention
from infinitetalk.models.attention_choice import best_of, try_backends
from infinitetalk.models.transformer import InfiniteTalkTransformer


@dataclass(frozen=True, slots=True)
class Trials:
    """What was measured, and what the deployment uses."""

    measured: tuple[attention_choice.Trial, ...]
    in_use: str

    @property
    def rows(self) -> tuple[Trial, ...]:
        return tuple(_row(trial) for trial in self.measured)

    @property
    def choice(self) -> str:
        """What `auto` takes."""
        return best_of(self.measured)

    @property
    def verdict(self) -> Verdict:
        """Whether the backend in use computes what it should, and what `auto` would take."""
        trial = next(trial for trial in self.measured if trial.name == self.in_use)
        detail = f"in use: {trial}"
        if self.choice != self.in_use:
            detail += f"; INFINITETALK_ATTENTION=auto would take {self.choice}"
        return Verdict(trial.refusal is None, detail)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return ()  # the rows are a table of their own


def attention_trial(
    network: InfiniteTalkTransformer,
    frames: int,
    size: Size,
    in_use: str,
    clock: Clock,
    backends: Mapping[str, Attention] = BACKENDS,
) -> Trials:
    """Try every backend on the same queries, keys and values, in bfloat16.

    Args:
        frames: of the window.
        size: of the video in pixels, (height, width).
        in_use: the backend of the deployment.
        clock: waits for the device.
    """
    grid = network.token_grid(latent_size(frames, size))
    config, device = network.config, network.patch_embedding.weight.device
    timed = try_backends(grid, config.heads, config.head_dim, device, _timer(clock), backends)
    return Trials(tuple(timed), in_use)


def _timer(clock: Clock) -> attention_choice.Clock:
    def milliseconds(call: Callable[[], object]) -> float:
        began = clock()
        call()
        return 1000 * (clock() - began)

    return milliseconds


def _row(trial: attention_choice.Trial) -> Trial:
    seconds = None if trial.milliseconds is None else trial.milliseconds / 1000
    return Trial(trial.name, seconds, trial.error, trial.refusal or "")
