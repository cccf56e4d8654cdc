PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

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

bench-serving: $(STAMP) ## measure serving beside its peers, events and memory on 200,000 items (half an hour)
	$(BIN)/python scripts/make_big_bundle.py --items 200000 --transformer --ranker --out bundles/bench
	$(BIN)/python scripts/bench_serving.py --bundle bundles/bench --out docs/benchmarks/serving.md
	$(BIN)/python scripts/bench_replica_memory.py --bundle bundles/bench --out docs/benchmarks/replica_memory.md
	$(BIN)/python scripts/bench_events.py --report docs/benchmarks/events.md
	$(BIN)/python scripts/bench_freshness.py --report docs/benchmarks/freshness.md

chaos: $(STAMP) ## kill replicas, swap bundles, take dependencies away, fuzz, soak (two hours; needs redis-server)
	$(BIN)/python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k
	$(BIN)/python scripts/make_big_bundle.py --items 2000 --users 500 --out bundles/fuzz
	$(BIN)/python scripts/chaos_replicas.py --bundle bundles/chaos20k --out docs/benchmarks/chaos_replicas.md
	for each in a0 b1 c2; do $(BIN)/python scripts/make_big_bundle.py --items 50000 --users 5000 --flat \
		--prefix $${each%?} --seed $${each#?} --out bundles/swaps || exit 1; done
	$(BIN)/python scripts/chaos_swap.py --bundles bundles/swaps --out docs/benchmarks/swap.md
	$(BIN)/python scripts/chaos_dependencies.py --bundle bundles/chaos20k --out docs/benchmarks/chaos_dependencies.md
	$(BIN)/python scripts/fuzz_requests.py --bundle bundles/fuzz --out docs/benchmarks/fuzz.md
	$(BIN)/python scripts/soak.py --bundle bundles/chaos20k --out docs/benchmarks/soak.md
	$(BIN)/python scripts/chaos_events.py --report docs/benchmarks/chaos_events.md

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

.PHONY: help install demo test test-slow bench-serving chaos check lint types imports format clean
