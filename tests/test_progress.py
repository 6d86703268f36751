"""Progress as a watcher sees it."""

from collections.abc import Callable

from infinitetalk.progress import Progress, ProgressMeter, Stage


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(
    windows: int,
    steps: int,
    clock: Clock,
    *,
    first_window: int = 0,
    broken: frozenset[int] = frozenset(),
) -> list[Progress]:
    """What a job reports whose steps take 2 s and whose windows take 3 s to decode; the windows in
    `broken` are denoised twice."""
    seen: list[Progress] = []
    meter = ProgressMeter(windows, steps, seen.append, first_window=first_window, clock=clock)
    meter.stage(Stage.ENCODING)
    clock.now += 50  # loading and encoding say nothing about the pace of steps
    for window in range(first_window, windows):
        meter.stage(Stage.ENCODING, window)
        for _ in range(2 if window in broken else 1):
            meter.stage(Stage.DENOISING, window)
            for step in range(1, steps + 1):
                clock.now += 2
                meter.step(step, 0)
            meter.stage(Stage.DECODING)
            clock.now += 3
    return seen


def test_the_fraction_starts_at_zero_never_falls_and_ends_at_one() -> None:
    fractions = [p.fraction for p in run(4, 3, Clock())]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_the_fraction_never_falls_when_a_window_is_rendered_again() -> None:
    fractions = [p.fraction for p in run(3, 4, Clock(), broken=frozenset({0, 1}))]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_windows_and_steps_are_counted_from_one() -> None:
    steps = [(p.window, p.step) for p in run(2, 2, Clock()) if p.stage is Stage.DENOISING]
    assert steps == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert {(p.windows, p.steps) for p in run(2, 2, Clock())} == {(2, 2)}


def test_stages_come_in_order_and_repeat_for_every_window() -> None:
    stages = [p.stage for p in run(2, 1, Clock()) if not p.step or p.stage is not Stage.DENOISING]
    one = [Stage.ENCODING, Stage.DENOISING, Stage.DECODING]
    assert stages == [Stage.ENCODING, *one, *one]


def test_there_is_no_estimate_before_the_first_step() -> None:
    seen = run(2, 3, Clock())
    first_step = next(i for i, p in enumerate(seen) if p.step == 1)
    assert all(p.eta_s is None for p in seen[:first_step])
    assert all(p.eta_s is not None for p in seen[first_step:])


def test_the_estimate_is_the_steps_to_go_and_the_rest_of_each_window_as_measured() -> None:
    seen = run(2, 3, Clock())
    steps = [p.eta_s for p in seen if p.step and p.stage is Stage.DENOISING]
    assert steps == [5 * 2, 4 * 2, 3 * 2, 2 * 2 + 3, 2 + 3, 3]  # decoding, once it is known


def test_a_resumed_job_starts_at_its_window_and_measures_its_own_steps() -> None:
    seen = run(4, 2, Clock(), first_window=3)
    assert seen[0].fraction == 3 / 4
    assert [p.eta_s for p in seen if p.step == 1] == [2.0]
    assert seen[-1].fraction == 1.0


def test_windows_that_were_rendered_again_are_counted_over_the_job() -> None:
    seen: list[Progress] = []
    report: Callable[[Progress], None] = seen.append
    meter = ProgressMeter(3, 1, report, clock=Clock())
    for window in range(3):
        meter.stage(Stage.DENOISING, window)
        if window != 1:
            meter.fall_back()
            meter.stage(Stage.DENOISING, window)
    assert [p.fallback_windows for p in seen] == [0, 1, 1, 1, 2]


def test_skipped_forwards_are_passed_on() -> None:
    seen: list[Progress] = []
    report: Callable[[Progress], None] = seen.append
    meter = ProgressMeter(1, 3, report, clock=Clock())
    meter.stage(Stage.DENOISING, 0)
    for step, skipped in ((1, 0), (2, 2), (3, 4)):
        meter.step(step, skipped)
    assert [p.skipped_steps for p in seen] == [0, 0, 2, 4]
