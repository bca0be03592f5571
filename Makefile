# Each target makes what it needs: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
FUZZ_SECONDS ?= 60

.PHONY: help install demo demo-shapes test test-slow torture bench claims check format clean
help:
	@echo "make demo       train on the demo corpus, translate, evaluate (two to six minutes)"
	@echo "make demo-shapes  the same with pictures as sources (about two minutes)"
	@echo "make test       format, lint, types, tests (ten to twenty minutes on two cores)"
	@echo "make test-slow  the whole matrix of cells and attentions, and the long forms of the tests"
	@echo "make torture    kills, damage, full disks and hostile input, long forms (about an hour)"
	@echo "make bench      speed, memory and growth on this machine (QUICK=1: about a minute)"
	@echo "make claims     what is said of such models, tried; docs/claims.md (MULTI30K_DIR=FOLDER; about five hours on two cores; QUICK=1: 20 minutes)"
	@echo "make check      format, lint and types alone"
	@echo "make install    the environment alone"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/s2s train --config configs/demo.yaml
	@echo "--- translate"
	head -n 5 data/demo/test.en | tee /dev/stderr | $(BIN)/s2s translate --model runs/demo
	@echo "--- evaluate: sentences of usual length, then long ones"
	$(BIN)/s2s evaluate --model runs/demo --min bleu=88 --min chrf=88
	$(BIN)/s2s evaluate --model runs/demo --test long

demo-shapes: $(INSTALLED)
	$(BIN)/python data/shapes/generate.py
	$(BIN)/s2s train --config configs/shapes.yaml
	@echo "--- translate"
	$(BIN)/s2s translate --model runs/shapes --input data/shapes/test.safetensors | head -n 5
	@echo "--- evaluate"
	$(BIN)/s2s evaluate --model runs/shapes --min bleu=95

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -rs -n 2 --dist worksteal --durations=10

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -rs -n 2 --dist worksteal -m slow --durations=10

torture: $(INSTALLED)
	$(BIN)/python -m pytest -rs -n 2 --dist worksteal --torture tests/torture tests/test_bulk.py tests/test_old_models.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torture]'
	for target in config yaml run lines objects; do \
	    $(BIN)/python tests/torture/fuzz.py $$target -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=0 -verbosity=0 || exit 1; \
	done

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick --learn 30)

claims: $(INSTALLED)
	$(BIN)/python -m benchmarks.claims $(if $(QUICK),--quick)

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
