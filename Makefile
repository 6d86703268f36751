# Every target makes or updates .venv first; requirements/install.sh says what it downloads.
PYTHON := .venv/bin/python
READY := .venv/.ready
DEMO := infinitetalk/demo/assets
GOLDEN ?= tests/data
# One more than there are processors, because tests wait for servers of theirs.
WORKERS = $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))
LOCK = uv pip compile --quiet --upgrade --python-version 3.11 --annotation-style line \
	--excludes requirements/cuda.txt --no-emit-package torch --custom-compile-command "make lock"
REVISION = $$(git describe --always --abbrev=40 --dirty)
export BENTOML_DO_NOT_TRACK := True

.PHONY: help demo serve test test-ui test-schema test-slow parity check bench-cpu loadtest docs bento image image-test test-modal-live lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## render outputs/demo.mp4 from the bundled portrait and sentence
	@mkdir -p outputs
	.venv/bin/infinitetalk generate --preset demo --image $(DEMO)/portrait.png \
		--audio $(DEMO)/speech.flac --output outputs/demo.mp4
	@echo "Next, with a face and a voice of yours:"
	@echo "  .venv/bin/infinitetalk generate --image FACE.jpg --audio VOICE.wav --output outputs/mine.mp4"

serve: $(READY) ## serve on this machine, at http://localhost:3000
	.venv/bin/bentoml serve

# Files in their order: those with the fewest tests, which xdist would begin last, take longest.
test: $(READY) ## run the tests
	$(PYTHON) -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-ui: $(READY) ## try the page in Chromium; pictures of it in outputs/page
	@requirements/chromium.sh
	$(PYTHON) -m pytest -m browser

test-schema: $(READY) ## make requests up from /docs.json and see that each is answered as it says
	$(PYTHON) -m pytest -m schema

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
	$(PYTHON) -m benchmarks.service

loadtest: $(READY) ## put load on a server with the tiny preset; report in outputs/
	$(PYTHON) -m loadtest

docs: $(READY) ## renew docs/reference/ from the code
	$(PYTHON) -m docs.make_reference

bento: $(READY) ## build the Bento, from which the image is made
	.venv/bin/bentoml build --label git_revision=$(REVISION)

image: bento ## build the GPU image with Docker (an hour, most of it flash-attn)
	bento=$$(.venv/bin/bentoml get infinitetalk:latest --output path) && \
	docker build --tag infinitetalk:latest --file $$bento/env/docker/Dockerfile \
		--label org.opencontainers.image.revision=$(REVISION) $$bento

test-modal-live: $(READY) ## deploy the tiny preset to your own Modal account and use it (some cents)
	$(PYTHON) -m pytest -m live

image-test: $(READY) ## build the image for the CPU, with or without Docker, and see it survive
	image/test.sh

lock: ## renew the locks from pyproject.toml (needs uv)
	$(LOCK) --universal --fork-strategy fewest --output-file requirements/cpu.lock pyproject.toml \
		--extra serve --extra deploy --extra c2pa --extra loadtest --extra test --extra check
	$(LOCK) --python-platform x86_64-manylinux_2_28 --output-file requirements/image.lock \
		pyproject.toml --extra serve --extra c2pa requirements/image.txt
	uv pip compile --quiet --python-version 3.11 --annotation-style line \
		--custom-compile-command "make lock" --python-platform x86_64-manylinux_2_28 \
		--constraints requirements/image.lock --output-file requirements/gateway.lock \
		requirements/gateway.txt

clean: ## remove .venv and what the tools left; keeps outputs/
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml requirements/cpu.lock requirements/install.sh
	@sh requirements/install.sh
	@touch $@
