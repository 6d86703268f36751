"""What a GPU costs. Prices are Modal's list prices of 2026-11 in US dollars an hour.

The price of a deployment elsewhere is the setting `gpu_price_per_hour`. A GPU that is not in the
table and has no setting costs 0, and so does a CPU.
"""

from infinitetalk.config import Settings

PER_HOUR: tuple[tuple[str, float], ...] = (  # part of the name CUDA gives -> price
    ("L40S", 1.95),
    ("A100-SXM4-40GB", 2.10),
    ("A100-PCIE-40GB", 2.10),
    ("A100", 2.50),
    ("RTX PRO 6000", 3.03),
    ("H100", 3.95),
    ("H200", 4.54),
    ("B200", 6.25),
)


def price_per_second(gpu: str | None, settings: Settings) -> float:
    """US dollars for a second of this GPU; None is the CPU."""
    if settings.gpu_price_per_hour is not None:
        return settings.gpu_price_per_hour / 3600
    prices = (price for name, price in PER_HOUR if gpu is not None and name in gpu)
    return next(prices, 0.0) / 3600
