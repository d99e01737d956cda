# `make` lists the targets. ARGS passes options on: make demo ARGS=--open, make test ARGS="-k architecture".
# PYTHON names the interpreter to build .venv with; without it the first suitable one is taken.
.DEFAULT_GOAL := help
.PHONY: help setup browser demo test slow cpus lint bench

PYTHON ?=
ARGS ?=
BIN := .venv/bin
# Modules are compiled once, not by each of the tests' processes, whatever the shell says of it.
export PYTHONDONTWRITEBYTECODE :=
STAMP := .venv/.installed

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## install Reslab and its tools into .venv (the others do it when needed)

browser: $(STAMP)  ## what the tests of the pages need: chromium (by apt-get), Playwright, axe; else they are skipped
	@sh scripts/browser.sh

demo: $(STAMP)  ## plain and residual twins side by side on scanned digits, about 2 minutes
	$(BIN)/reslab demo $(ARGS)

test: $(STAMP)  ## the test suite, but for what takes seconds a test
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

# Some of these wait, for processes, clusters and pages: one more at a time than there are cores.
slow: $(STAMP)  ## the rest of it: clusters, killed processes, browsers, other libraries' largest networks
	$(BIN)/python -m pytest -n $$(($$($(BIN)/python -c 'import os; print(os.cpu_count())') + 1)) --dist worksteal -m slow $(ARGS)

cpus: $(STAMP)  ## those that depend on the processor, as on each lesser one: AVX2, AVX-512 without and with bf16
	$(BIN)/python scripts/test_cpus.py $(ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP)  ## speed of a training step, beside plain PyTorch in the same run
	$(BIN)/python benchmarks/train_step.py $(ARGS)

# The stamp is the last thing written, so that a set-up which broke off is taken up again.
$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh
	@touch $@
