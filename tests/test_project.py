"""The model of seconds and prices: its counts, its limits, its error, and the page it writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hardware import GPUS, Container, Gpu
from benchmarks.job_cost import Usage, cost_of, fits, forwards, ways, windows
from benchmarks.measured import (
    CALIBRATION,
    COLOR_MATCH,
    ENCODERS,
    FORWARDS,
    TO_HOST,
    TODAY,
    VAE_TODAY,
    WEIGHTS_GIB,
    WINDOW_GIB,
    WINDOWS,
    Arithmetic,
    Attention,
    Code,
)
from benchmarks.project import PAGE, main, with_tables
from benchmarks.projection_error import comparisons
from benchmarks.roofline import (
    PASSES,
    Way,
    attention_rates,
    gpu_called,
    predict_forward,
    rate_in,
    slack,
    tokens,
    work_of,
)
from infinitetalk.config import Settings
from infinitetalk.jobs.pricing import price_per_second
from infinitetalk.sampling.guidance import branches
from infinitetalk.sampling.windows import WindowPlan
from infinitetalk.spec import FPS, PRESETS, Preset

ROOT = Path(__file__).parents[1]
TORCH_FREE = "import sys, benchmarks.project; sys.exit('torch' in sys.modules)"
FULL = [PRESETS[name] for name in ("fast", "standard", "best")]
COMPILED_FP8 = Way(Arithmetic.FP8, Attention.LIBRARY, Code.COMPILED)
COMPILED_BF16 = Way(Arithmetic.BF16, Attention.LIBRARY, Code.COMPILED)


def test_a_forward_does_the_operations_that_the_design_counts() -> None:
    work = work_of(tokens("480p"))
    assert tokens("480p") == 33_600
    assert work.linear == pytest.approx(944, abs=1)
    assert work.self_attention == pytest.approx(925, abs=1)
    assert work.cross_attention == pytest.approx(22, abs=0.1)


def test_at_720p_linear_work_grows_with_the_tokens_and_attention_with_their_square() -> None:
    small, large = work_of(tokens("480p")), work_of(tokens("720p"))
    ratio = 75_600 / 33_600
    assert large.linear / small.linear == pytest.approx(ratio)
    assert large.self_attention / small.self_attention == pytest.approx(ratio**2)


@pytest.mark.parametrize("preset", FULL, ids=lambda preset: preset.name)
def test_a_window_has_the_forwards_and_the_frames_that_the_engine_gives_it(
    preset: Preset,
) -> None:
    guidance = branches(preset.text_guidance, preset.audio_guidance)
    assert forwards(preset) == preset.steps * len(guidance)
    for video_s in (0.2, 3.24, 3.28, 10.0, 60.0):
        plan = WindowPlan(round(video_s * FPS), preset.window, preset.motion_frames)
        assert windows(preset, video_s) == plan.count


def test_the_model_says_what_the_measured_forwards_took_within_a_tenth() -> None:
    ours = [row for row in comparisons() if row.what.startswith("a forward, ")]
    assert len(ours) == len(FORWARDS)
    assert max(abs(row.error) for row in ours) < 0.1
    assert [abs(row.error) < 1e-9 for row in ours] == [one is CALIBRATION for one in FORWARDS]


def test_the_model_says_what_the_measured_windows_took_within_a_tenth() -> None:
    windows = [row for row in comparisons() if row.what.startswith("a window of ")]
    assert len(windows) == len(WINDOWS)
    assert all(abs(row.error) < 0.1 for row in windows)


def test_a_measured_forward_takes_the_place_of_the_prediction() -> None:
    cost = cost_of(gpu_called("H200"), PRESETS["fast"], "480p", COMPILED_FP8, Usage(), Container())
    wanted = (Arithmetic.FP8, Attention.LIBRARY, Code.COMPILED, "480p")
    (found,) = (
        one.seconds
        for one in FORWARDS
        if (one.arithmetic, one.attention, one.code, one.resolution) == wanted
    )
    assert (cost.is_measured, cost.forward_s.low, cost.forward_s.high) == (True, found, found)
    at_720p = cost_of(
        gpu_called("H200"), PRESETS["fast"], "720p", COMPILED_BF16, Usage(), Container()
    )
    assert not at_720p.is_measured


def test_what_is_not_fused_costs_more_where_the_memory_is_slower() -> None:
    eager = Way(Arithmetic.FP8, Attention.LIBRARY, Code.EAGER)
    added = [
        predict_forward(gpu, "480p", eager).low / predict_forward(gpu, "480p", COMPILED_FP8).low
        for gpu in (gpu_called("L40S"), gpu_called("H200"))
    ]
    assert added[0] > added[1] > 1


def test_attention_is_a_range_only_where_no_kernel_was_measured() -> None:
    known, unknown = gpu_called("H200"), gpu_called("L40S")
    rates = attention_rates(known, Attention.LIBRARY)
    assert rates.low == rates.high == pytest.approx(568)
    rates = attention_rates(unknown, Attention.LIBRARY)
    assert 0 < rates.low < rates.high < unknown.bf16
    rates = attention_rates(known, Attention.EIGHT_BIT)
    assert rates.low == rates.high == pytest.approx(877)
    rates = attention_rates(unknown, Attention.EIGHT_BIT)
    assert 0 < rates.low < rates.high < rate_in(unknown, Arithmetic.FP8)


@pytest.mark.parametrize(
    ("gpu", "arithmetic", "resolution", "expected"),
    [
        ("L40S", Arithmetic.FP8, "480p", True),
        ("L40S", Arithmetic.FP8, "720p", True),
        ("L40S", Arithmetic.BF16, "480p", False),
        ("A100-40GB", Arithmetic.BF16, "480p", False),
        ("A100-80GB", Arithmetic.BF16, "720p", True),
    ],
)
def test_a_gpu_is_left_out_where_the_model_does_not_fit(
    gpu: str, arithmetic: Arithmetic, resolution: str, expected: bool
) -> None:
    assert fits(gpu_called(gpu), arithmetic, resolution) is expected


def test_a_gpu_without_fp8_is_given_neither_fp8_layers_nor_8_bit_attention() -> None:
    assert list(ways(gpu_called("A100-80GB"), "480p", (Code.COMPILED,))) == [COMPILED_BF16]


def test_a_bill_counts_start_rendering_and_waiting_of_gpu_cores_and_memory() -> None:
    gpu, container = gpu_called("L40S"), Container(cores=2.0, memory_gib=8.0)
    usage = Usage(video_s=30.0, jobs=4, cold_start_s=100.0, idle_s=60.0)
    cost = cost_of(gpu, PRESETS["standard"], "480p", COMPILED_FP8, usage, container)
    per_second = 1.95 / 3600 + 2 * 0.0000131 + 8 * 0.00000222
    paid_s = 100 + 4 * cost.job_s.high + 60
    assert cost.billed.high == pytest.approx(paid_s * per_second / 2)  # two minutes of video
    assert cost.dollars.high == pytest.approx(cost.job_s.high * per_second * 2)
    around = cost.job_s.high - 11 * cost.window_s.high  # 750 frames are 11 windows
    assert around > ENCODERS  # the picture too


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_gpu_has_its_price_in_the_one_table(gpu: Gpu) -> None:
    assert price_per_second(gpu.cuda_name, Settings()) > 0


def test_both_a100_have_their_own_price() -> None:
    small, large = (gpu_called(name).cuda_name for name in ("A100-40GB", "A100-80GB"))
    assert price_per_second(small, Settings()) < price_per_second(large, Settings())


def test_the_tables_of_the_page_are_current() -> None:
    page = PAGE.read_text("utf-8")
    assert with_tables(page) == page, "run `python -m benchmarks.project --write`"


def test_the_page_says_in_words_what_the_model_reckons_with() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    h200 = gpu_called("H200")
    attention = attention_rates(gpu_called("L40S"), Attention.LIBRARY)
    own = attention_rates(h200, Attention.EIGHT_BIT).low / rate_in(h200, Arithmetic.FP8)
    any_gpu = attention_rates(gpu_called("L40S"), Attention.EIGHT_BIT).low / 7.33
    work = work_of(tokens("480p"))
    for words in (
        f"flash-attention 2's on the H200 ({attention.low / 3.62:.0f} %)",
        f"cuDNN's ({attention.high / 3.62:.0f} %)",
        f"reaches {100 * own:.0f} % of the 8-bit rate",
        f"run on the H200 ({any_gpu:.0f} %)",
        f"beyond the sum of its parts: {100 * slack() - 100:.0f} %",
        f"{work.linear / 1000:.3f} PFLOP in linear layers",
        f"VAE decode {VAE_TODAY.decode} s, encode {VAE_TODAY.encode} s for 81 frames",
        f"colours {COLOR_MATCH} s, copy to the host {TO_HOST} s",
        f"costs ${48 * 3600 * Container(0.0, 1.0).price_per_second:.2f} an hour more than 16",
        f"${86400 * Container(0.5, 1.0).price_per_second:.2f} a day",
    ):
        assert words in text


@pytest.mark.parametrize("gpu", ["H100", "B200"])
def test_a_dearer_gpu_makes_the_cheaper_minute_as_the_page_says(gpu: str) -> None:
    way = Way(Arithmetic.FP8, Attention.LIBRARY, TODAY)
    costs = [
        cost_of(gpu_called(name), PRESETS["standard"], "480p", way, Usage(), Container())
        for name in (gpu, "L40S")
    ]
    assert costs[0].billed.high < costs[1].billed.low


def test_the_command_prints_one_row_for_what_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--gpu", "A100-80GB", "--preset", "best", "--resolution", "720p"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[4] for row in rows] == list(PASSES)
    assert all("predicted" in row for row in rows)


def test_the_command_needs_no_torch() -> None:
    subprocess.run([sys.executable, "-c", TORCH_FREE], check=True, cwd=ROOT)


def test_memory_is_what_the_memory_plan_says() -> None:
    import torch

    from infinitetalk.weights.footprint import Footprint
    from infinitetalk.weights.model_config import released_config
    from infinitetalk.weights.text_placement import TextPlacement

    gpu = torch.device("cuda")
    for arithmetic, (whole, without_text) in WEIGHTS_GIB.items():
        model = Footprint(
            PRESETS["standard"], released_config(), arithmetic.value, torch.bfloat16, gpu
        )
        text = model.text_encoder(TextPlacement.DEVICE).device
        assert (model.resident + text) / 2**30 == pytest.approx(whole, abs=0.7)
        assert model.resident / 2**30 == pytest.approx(without_text, abs=0.7)
    for resolution, planned in WINDOW_GIB.items():
        assert model.window(resolution) / 2**30 == pytest.approx(planned, abs=0.7)
