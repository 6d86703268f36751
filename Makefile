# Every target makes or updates .venv first; requirements/install.sh says what it downloads.
PYTHON := .venv/bin/python
READY := .venv/.ready
DEMO := infinitetalk/demo/assets
GOLDEN ?= tests/data

.PHONY: help demo test test-slow parity check bench-cpu lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## render outputs/demo.mp4 from the bundled portrait and sentence
	@mkdir -p outputs
	.venv/bin/infinitetalk generate --preset demo --image $(DEMO)/portrait.png \
		--audio $(DEMO)/speech.flac --output outputs/demo.mp4
	@echo "Next, with a face and a voice of yours:"
	@echo "  .venv/bin/infinitetalk generate --image FACE.jpg --audio VOICE.wav --output outputs/mine.mp4"

test: $(READY) ## run the tests
	$(PYTHON) -m pytest

test-slow: $(READY) ## run the tests that take minutes
	$(PYTHON) -m pytest -m slow

parity: $(READY) ## compare with the original's numbers in GOLDEN=tests/data
	$(PYTHON) -m infinitetalk.parity $(GOLDEN)

check: $(READY) ## check format, lint and types
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy

bench-cpu: $(READY) ## measure on this CPU and write benchmarks/RESULTS.md
	$(PYTHON) -m benchmarks.cpu

lock: ## renew requirements/cpu.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra test --extra check --quiet --upgrade \
		--universal --python-version 3.11 --fork-strategy fewest \
		--excludes requirements/cuda.txt --no-emit-package torch \
		--annotation-style line --custom-compile-command "make lock" \
		--output-file requirements/cpu.lock

clean: ## remove .venv and what the tools left; keeps outputs/
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml requirements/cpu.lock requirements/install.sh
	@sh requirements/install.sh
	@touch $@
