PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ITEMS ?= 1000000
USERS ?= 100000
REPORTS ?= docs/benchmarks
WORKERS ?= 2
PORT ?= 8000

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-19s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[train,serve,kafka,ray,mlflow,dev]'
	@touch $@

demo: $(STAMP) ## ingest, train, export and serve the built-in shop, then ask for a slate (PORT=8000)
	$(BIN)/python scripts/demo.py --port $(PORT)

test: $(STAMP) ## run the default test suite (WORKERS=2 processes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-slow: $(STAMP) ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

bench-serving: $(STAMP) ## measure serving beside its peers, events and memory (ITEMS=1000000: two hours, 8 GB)
	$(BIN)/python scripts/make_big_bundle.py --items $(ITEMS) --users $(USERS) --transformer --ranker --out bundles/bench
	$(BIN)/python scripts/bench_serving.py --bundle bundles/bench --out $(REPORTS)/serving.md
	$(BIN)/python scripts/bench_replica_memory.py --bundle bundles/bench --out $(REPORTS)/replica_memory.md
	$(BIN)/python scripts/bench_events.py --report $(REPORTS)/events.md
	$(BIN)/python scripts/bench_freshness.py --report $(REPORTS)/freshness.md
	$(BIN)/python scripts/bench_stores.py --out $(REPORTS)/stores.md

chaos: $(STAMP) ## kill replicas, swap and spoil bundles, take dependencies away, fuzz, soak (three hours; needs redis-server)
	$(MAKE) --keep-going chaos-replicas chaos-swap chaos-flips chaos-dependencies fuzz soak chaos-events

bundles/chaos20k/current: | $(STAMP)
	$(BIN)/python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k

bundles/fuzz/current: | $(STAMP)
	$(BIN)/python scripts/make_big_bundle.py --items 2000 --users 500 --ranker --out bundles/fuzz

bundles/swaps/current: | $(STAMP)
	for each in a0 b1 c2; do $(BIN)/python scripts/make_big_bundle.py --items 50000 --users 5000 --flat \
		--prefix $${each%?} --seed $${each#?} --out bundles/swaps || exit 1; done

bundles/flips/current: | $(STAMP)
	for each in a0 b1; do $(BIN)/python scripts/make_big_bundle.py --items 2000 --users 500 --ranker \
		--prefix $${each%?} --seed $${each#?} --out bundles/flips || exit 1; done

chaos-replicas: bundles/chaos20k/current ## kill replicas under load
	$(BIN)/python scripts/chaos_replicas.py --bundle bundles/chaos20k --out $(REPORTS)/chaos_replicas.md

chaos-swap: bundles/swaps/current ## swap bundles under load
	$(BIN)/python scripts/chaos_swap.py --bundles bundles/swaps --out $(REPORTS)/swap.md

chaos-flips: bundles/flips/current ## damage every file of a bundle
	$(BIN)/python scripts/chaos_flips.py --bundles bundles/flips --out $(REPORTS)/chaos_flips.md

chaos-dependencies: bundles/chaos20k/current bundles/fuzz/current ## take store, log and ranker away
	$(BIN)/python scripts/chaos_dependencies.py --bundle bundles/chaos20k --ranked bundles/fuzz --out $(REPORTS)/chaos_dependencies.md

chaos-events: $(STAMP) ## kill the event writer a thousand times
	$(BIN)/python scripts/chaos_events.py --report $(REPORTS)/chaos_events.md

fuzz: bundles/fuzz/current ## send 200,000 requests that no sane caller sends
	$(BIN)/python scripts/fuzz_requests.py --bundle bundles/fuzz --out $(REPORTS)/fuzz.md

soak: bundles/chaos20k/current ## half a million requests: memory and open files
	$(BIN)/python scripts/soak.py --bundle bundles/chaos20k --out $(REPORTS)/soak.md

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

.PHONY: help install demo test test-slow bench-serving chaos chaos-replicas chaos-swap chaos-flips chaos-dependencies \
	chaos-events fuzz soak check lint types imports format clean
