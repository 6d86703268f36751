"""Loading and what it took."""

from infinitetalk.acceptance.loading import choose, load, verify_all
from infinitetalk.config import Settings
from tests.acceptance.subjects import CPU, Ticks


def test_the_bytes_of_every_network_are_counted_from_the_first_on(settings: Settings) -> None:
    weights, ticks = choose("tiny", settings, CPU), Ticks()
    ticks.seconds = 10.0
    loaded = load(weights, settings, CPU, started=4.0, clock=ticks)
    stored = sum(path.stat().st_size for path in weights.folder.glob("*.safetensors"))
    assert 0.5 * stored < loaded.size_bytes < stored  # the rest is headers
    assert (loaded.verifying_s, loaded.reading_s, loaded.preparing_s) == (1.0, 1.0, 1.0)
    assert loaded.since_start_s == 10.0
    assert loaded.runner.preset == "tiny"


def test_whole_weights_are_all_hashed(settings: Settings) -> None:
    verdict = verify_all(choose("tiny", settings, CPU), settings)
    assert verdict.passed
    assert verdict.detail.startswith("7 files")
