"""What the GPUs can do by their datasheets, and what a container costs beside its GPU.

Rates are dense (without sparsity) and per second. A datasheet's rate is reached by no kernel;
`measured` has what share of it ours reach. Prices of the GPUs themselves are in
`infinitetalk.jobs.pricing`, and nowhere else.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; rates in 10^12 operations a second."""

    name: str
    cuda_name: str  # as CUDA gives it; the price is found by it
    bf16: float
    fp8: float | None  # None: no fp8 arithmetic, so neither fp8 layers nor 8-bit attention
    tf32: float
    bandwidth: float  # of its memory, 10^12 bytes a second
    memory: float  # 10^9 bytes
    capability: tuple[int, int]  # what CUDA calls its architecture
    source: str

    @property
    def memory_gib(self) -> float:
        return self.memory * 1e9 / GIB

    @property
    def has_fast_attention(self) -> bool:
        """Whether cuDNN has a kernel made for it; else flash-attention 2 is the best."""
        return self.capability in ((9, 0), (10, 0))

    @property
    def has_fast_8_bit_attention(self) -> bool:
        """Whether our 8-bit attention has a kernel made for it; else it is the one for any GPU."""
        return self.capability == (9, 0)


SXM = "SXM datasheet, rates with sparsity halved"
EIGHTH = "HGX B200 datasheet, an eighth"
# No table of dense rates was at hand.
HALVED = "its datasheet's 4 PFLOP/s in fp4 with sparsity, halved for dense and for each step up"
RTX_PRO = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
GPUS: tuple[Gpu, ...] = (
    Gpu("L40S", "NVIDIA L40S", 362, 733, 183, 0.864, 48, (8, 9), "NVIDIA L40S datasheet"),
    Gpu("A100-40GB", "NVIDIA A100-SXM4-40GB", 312, None, 156, 1.555, 40, (8, 0), f"A100 {SXM}"),
    Gpu("A100-80GB", "NVIDIA A100-SXM4-80GB", 312, None, 156, 2.039, 80, (8, 0), f"A100 {SXM}"),
    Gpu("RTX PRO 6000", RTX_PRO, 500, 1000, 250, 1.597, 96, (12, 0), HALVED),
    Gpu("H100", "NVIDIA H100 80GB HBM3", 989, 1979, 494, 3.35, 80, (9, 0), f"H100 {SXM}"),
    Gpu("H200", "NVIDIA H200", 989, 1979, 494, 4.8, 141, (9, 0), f"H200 {SXM}"),
    Gpu("B200", "NVIDIA B200", 2250, 4500, 1100, 8.0, 180, (10, 0), EIGHTH),
)


@dataclass(frozen=True, slots=True)
class Container:
    """What is paid beside the GPU: physical cores and memory, requested or used."""

    cores: float = 4.0
    memory_gib: float = 16.0

    @property
    def price_per_second(self) -> float:
        """US dollars."""
        return self.cores * CORE_PER_SECOND + self.memory_gib * GIB_PER_SECOND


# Modal's list prices of 2026-11, US dollars; a chosen region multiplies all by 1.5 to 1.75.
CORE_PER_SECOND = 0.0000131
GIB_PER_SECOND = 0.00000222
