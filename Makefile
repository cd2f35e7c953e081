# Everything starts from Python and make: each target first makes the environment from the lock.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
READY := $(VENV)/.ready

# Real data where it is on disk; everything also works without.
ATYPIA_DATA ?= $(firstword $(realpath $(wildcard data ../shared/data)))
ifneq ($(ATYPIA_DATA),)
export ATYPIA_DATA
endif

.PHONY: help setup demo model model-amibr test test-all lint types layers unit browser format lock oldest bench docs notebooks site clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: $(READY)  ## the environment, from the lock

$(READY): requirements/lock.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(VENV) requirements/lock.txt
	$(BIN)/uv pip install --quiet --python $(VENV) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## a benchmark table in a few minutes, on real crops where they are on disk
	$(BIN)/atypia demo --out demo

RUNS ?= runs
TRAIN := $(BIN)/atypia train
# One training a laboratory, each without it; NUMBER-LABORATORY, the number being its seed.
LABORATORIES := 1-leica-scn400-tupac16-centre-b 2-leica-scn400-tupac16-centre-c 3-tcga 4-hamamatsu-s360-umc-utrecht \
  5-aperio-cs2-umc-utrecht 6-aperio-xt-umc-utrecht 7-hamamatsu-xr-umc-utrecht
AMIBR := 11-leica-scn400-tupac16-centre-b 12-leica-scn400-tupac16-centre-c 13-hamamatsu-s360-umc-utrecht \
  14-aperio-cs2-umc-utrecht 15-aperio-xt-umc-utrecht 16-hamamatsu-xr-umc-utrecht
# Networks that know all laboratories: their mean is the classifier, whose decision is of those that lack one each.
WHOLE := 21-fold-1 22-fold-2 23-fold-3
WHOLE_AMIBR := 31-fold-1 32-fold-2 33-fold-3
LEFT_OUT := $(LABORATORIES:%=$(RUNS)/labs/%)
LEFT_OUT_AMIBR := $(AMIBR:%=$(RUNS)/amibr/%)
KNOW_ALL := $(WHOLE:%=$(RUNS)/whole/%)
KNOW_ALL_AMIBR := $(WHOLE_AMIBR:%=$(RUNS)/whole-amibr/%)
seed = $(firstword $(subst -, ,$(1)))
fold = $(patsubst $(call seed,$*)-%,%,$*)
without = $(TRAIN) lora --protocol lodo --out $@ --seed $(call seed,$*) --fold $(fold)-human-breast-cancer
with_all = $(TRAIN) lora --protocol kfold --out $@ --seed $(call seed,$*) --fold $(fold)
PUBLIC := --data ami-br+atnorm-br --drop-repeats
AMIBR_TRAIN := --data ami-br --where part=train

.PHONY: $(LEFT_OUT) $(LEFT_OUT_AMIBR) $(KNOW_ALL) $(KNOW_ALL_AMIBR)
$(LEFT_OUT): $(RUNS)/labs/%: $(READY)
	$(without) $(PUBLIC)

$(KNOW_ALL): $(RUNS)/whole/%: $(READY)
	$(with_all) $(PUBLIC)

$(LEFT_OUT_AMIBR): $(RUNS)/amibr/%: $(READY)
	$(without) $(AMIBR_TRAIN)

$(KNOW_ALL_AMIBR): $(RUNS)/whole-amibr/%: $(READY)
	$(with_all) $(AMIBR_TRAIN)

model: $(LEFT_OUT) $(KNOW_ALL)  ## the classifier that ships, from all public figures (about four hours on two cores with -j2; resumable)
	rm -rf $(RUNS)/averaged
	$(BIN)/atypia average $(LEFT_OUT) $(KNOW_ALL:%=--weights-of %) --name atypia --out $(RUNS)/averaged
	$(BIN)/python tools/ship.py $(RUNS)/averaged --data ami-br+atnorm-br
	$(BIN)/python tools/model_report.py --model atypia --card

model-amibr: $(LEFT_OUT_AMIBR) $(KNOW_ALL_AMIBR)  ## its twin by the same recipe, from AMi-Br's published training part alone, for honest rows
	rm -rf $(RUNS)/averaged-amibr
	$(BIN)/atypia average $(LEFT_OUT_AMIBR) $(KNOW_ALL_AMIBR:%=--weights-of %) --name atypia-amibr --out $(RUNS)/averaged-amibr
	$(BIN)/python tools/ship.py $(RUNS)/averaged-amibr --name atypia-amibr --data ami-br
	$(BIN)/python tools/model_report.py --model atypia-amibr --trained $(RUNS)/averaged-amibr --card

# Two workers; a file's tests stay on one, so that what they share is made once. Examples in docstrings, many and small, come
# last and fill the end up.
TWICE := -n 2 --dist loadfile --no-loadscope-reorder

test: lint types layers unit  ## lint, types, import layers, tests and doctests

test-all: lint types layers browser site $(READY)  ## the same with the long checks
	$(BIN)/pytest $(TWICE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/basedpyright

layers: $(READY)
	$(BIN)/lint-imports --no-logo

unit: $(READY) browser
	$(BIN)/pytest $(TWICE) -m "not slow"

browser:  ## Chromium for the tests of pages, where Debian's packages can be installed; else they are skipped
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 \
	  || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	       && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "no Chromium here: the tests of pages are skipped"

format: $(READY)  ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## speed and memory; adds the ratios to the history and names what became slower
	$(BIN)/python -m benchmarks --record

docs: $(READY)  ## write the generated tables of the documentation anew, from code and data
	$(BIN)/python tools/write_docs.py
	$(BIN)/python tools/results.py --write

notebooks: $(READY)  ## run the notebooks and write their pages anew
	MPLBACKEND=Agg $(BIN)/python tools/documentation/notebooks.py

# The site's generator has an environment of its own: pages need none of what Atypia needs.
DOCS_VENV ?= .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready

$(DOCS_READY): requirements/docs.txt
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/docs.txt
	@touch $@

site: $(DOCS_READY)  ## the documentation as a site in build/site/html; warnings and faulty links are errors
	$(DOCS_VENV)/bin/python tools/documentation/build.py

# The oldest versions that pyproject.toml allows, for the core, training and export. Constraints of the lock are left out.
OLDEST_VENV ?= .venv-oldest
OLDEST_TESTS := tests/tiers/test_core.py tests/statistics tests/evaluation tests/inference tests/data tests/cli

requirements/oldest.txt: pyproject.toml $(READY)
	$(BIN)/uv pip compile pyproject.toml --quiet --no-config --upgrade --resolution lowest-direct --extra train --extra export \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url --output-file $@

oldest: requirements/oldest.txt  ## an environment of the oldest versions that are allowed, and a part of the tests in it
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 $(OLDEST_VENV)
	cd requirements && ../$(BIN)/uv pip install --quiet --no-config --python $(abspath $(OLDEST_VENV)) --requirement oldest.txt
	cd requirements && ../$(BIN)/uv pip install --quiet --no-config --python $(abspath $(OLDEST_VENV)) --constraint oldest.txt \
	  pytest hypothesis httpx jsonschema imagehash mapie matplotlib torchmetrics pytorch-metric-learning
	$(BIN)/uv pip install --quiet --python $(OLDEST_VENV) --no-deps --editable .
	$(OLDEST_VENV)/bin/pytest -m "not slow" $(OLDEST_TESTS)

lock: $(READY)  ## pin everything anew
	$(BIN)/uv pip compile requirements/docs.in --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --output-file requirements/docs.txt
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --output-file requirements/lock.txt

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
