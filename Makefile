PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[train,serve,kafka,ray,mlflow,dev]'
	@touch $@

demo: $(STAMP) ## ingest, train, export and serve the built-in shop, then ask for a slate
	$(BIN)/python scripts/demo.py

test: $(STAMP) ## run the default test suite
	$(BIN)/python -m pytest

test-slow: $(STAMP) ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

check: lint types imports test ## everything CI runs

lint: $(STAMP) ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## strict types
	$(BIN)/mypy

imports: $(STAMP) ## import rules
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite files in the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove stores, runs and bundles (the virtual environment stays)
	rm -rf stores runs bundles multirun

.PHONY: help install demo test test-slow check lint types imports format clean
