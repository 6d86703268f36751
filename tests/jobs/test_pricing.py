import pytest

from infinitetalk.config import Settings
from infinitetalk.jobs.pricing import price_per_second


@pytest.mark.parametrize(
    ("gpu", "per_hour"),
    [
        ("NVIDIA L40S", 1.95),
        ("NVIDIA A100-SXM4-40GB", 2.10),
        ("NVIDIA A100-SXM4-80GB", 2.50),
        ("NVIDIA H100 80GB HBM3", 3.95),
        ("NVIDIA H200", 4.54),
        ("NVIDIA B200", 6.25),
        ("NVIDIA GeForce RTX 4090", 0.0),
        (None, 0.0),
    ],
)
def test_a_known_gpu_has_its_price_and_all_else_is_free(gpu: str | None, per_hour: float) -> None:
    assert price_per_second(gpu, Settings()) == pytest.approx(per_hour / 3600)


@pytest.mark.parametrize("gpu", ["NVIDIA L40S", None])
def test_a_deployments_own_price_holds_for_whatever_it_runs_on(gpu: str | None) -> None:
    assert price_per_second(gpu, Settings(gpu_price_per_hour=36.0)) == pytest.approx(0.01)
