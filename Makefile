# The verbs. Each does its own set-up; CI calls the same ones. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
S3_READY := $(VENV)/.s3-ready
FUZZ_READY := $(VENV)/.fuzz-ready
# The data set of `make bench`.
ITEMS ?= 1000000
SEED ?= 7
NORMS ?= heavy
# Of `make soak`.
SOAK_ITEMS ?= 100000
SOAK_S ?= 1800
# Of `make chaos`; SEED draws its faults.
CHAOS_S ?= 600
FAULTS ?= 240
# Of `make properties`.
STEPS ?= 10000
# Of `make fuzz`.
SECONDS ?= 3600
# FIRST=1: the bench goes before all other work of the machine, which needs root.
FIRST ?=
# Tests and builds must not start a thread pool in every library at once.
export OMP_NUM_THREADS ?= 1

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

up: $(READY) ## Start everything, load MovieLens-100k, train, and answer. Ctrl-C stops it.
	@$(BIN)/reco up --sample movielens

test: check unit ## Everything that CI runs: the checks, then all tests with coverage.

check: $(READY) ## Format, lint, types, import rules, contract.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=.:gen $(BIN)/lint-imports

unit: $(S3_READY) ## All tests with coverage.
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -q --durations=10
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --format=total | sed 's/^/coverage, percent: /'

properties: $(READY) ## Catalogue, filters and paging against plain models, at least STEPS steps (10000) of each.
	RECO_STATE_STEPS=$(STEPS) $(BIN)/python -m pytest -q tests/unit/serving/test_catalogue_states.py \
	  tests/unit/serving/test_filter_states.py tests/unit/serving/test_paging_states.py

fuzz: $(FUZZ_READY) ## Random bytes into every decoder and the filter language for SECONDS seconds (3600): inputs, paths, findings.
	PYTHONPATH=.:gen nice -n 19 $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED)

evaluate: $(READY) ## The quality table on MovieLens-100k.
	@$(BIN)/reco evaluate

latency: $(READY) ## Milliseconds of one answer, against what `make up` has started.
	@$(BIN)/python bench/latency.py

bench: $(BENCH_READY) ## All figures over ITEMS, SEED and NORMS (1000000, 7, heavy): some twenty minutes.
	PYTHONPATH=.:gen $(BIN)/python -m bench.run --items $(ITEMS) --seed $(SEED) --norms $(NORMS) $(if $(FIRST),--first)

bench-quick: $(BENCH_READY) ## The same over 30,000 items in under 3 minutes: for a look, not for a claim.
	PYTHONPATH=.:gen $(BIN)/python -m bench.run --quick --items $(ITEMS) --seed $(SEED) --norms $(NORMS) $(if $(FIRST),--first)

bench-ingest: $(READY) ## How many events a second come in and reach each sink, in some three minutes.
	PYTHONPATH=.:gen $(BIN)/python -m bench.ingest $(if $(FIRST),--first)

soak: $(READY) ## Everything at once for SOAK_S seconds (1800): what fails, grows or leaks.
	PYTHONPATH=.:gen $(BIN)/python -m bench.soak --items $(SOAK_ITEMS) --seed $(SEED) --norms $(NORMS) --seconds $(SOAK_S)

chaos: $(READY) ## FAULTS faults of every kind over CHAOS_S seconds (240, 600) under load, then a count of what was acknowledged.
	PYTHONPATH=.:gen $(BIN)/python -m bench.chaos --seed $(SEED) --seconds $(CHAOS_S) --faults $(FAULTS) --out .cache/reports/chaos-$(SEED).json

bench-report: $(BENCH_READY) ## Draw the newest result: latency over rate, recall over latency, cost by stage.
	@PYTHONPATH=.:gen $(BIN)/python -m bench.report

gen: $(READY) ## Generate gen/ from proto/.
	$(BIN)/python proto/generate.py

format: $(READY) ## Format code and protos.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w proto

docs: $(READY) ## Write docs/settings.md and docs/metrics.md from the code.
	PYTHONPATH=.:gen $(BIN)/python docs/generate.py

lock: $(READY) ## Resolve pyproject.toml's dependencies again into requirements.lock and those beside it.
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --upgrade -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra bench --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --constraint requirements.lock -o requirements-bench.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra s3 --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --constraint requirements.lock -o requirements-s3.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra fuzz --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --constraint requirements.lock -o requirements-fuzz.lock

clean: ## Remove what was built here; data/ stays.
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# --no-deps: the lock is whole, and pip's own resolver asks for a newer "coverage[toml]" than it pins once there is one.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is older. Debian, Ubuntu: sudo apt-get install -y python3. Or: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing. Debian, Ubuntu: sudo apt-get install -y python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV): some minutes the first time."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --editable .
	@touch $@

$(S3_READY): $(READY) requirements-s3.lock
	@echo "Setting up the S3-compatible server that tests start."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-s3.lock
	@touch $@

$(FUZZ_READY): $(READY) requirements-fuzz.lock
	@echo "Setting up the guide of the fuzzers."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-fuzz.lock
	@touch $@

$(BENCH_READY): $(READY) requirements-bench.lock
	@command -v c++ >/dev/null || \
	  { echo "A C++ compiler is missing (hnswlib is built from source). Debian, Ubuntu: sudo apt-get install -y g++ python3-dev; Fedora, Rocky: sudo dnf install -y gcc-c++ python3-devel; macOS: xcode-select --install" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || \
	  { echo "Python's headers are missing (hnswlib is built from source). Debian, Ubuntu: sudo apt-get install -y python3-dev; Fedora, Rocky: sudo dnf install -y python3-devel" >&2; exit 1; }
	@echo "Setting up what the bench needs beside it."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-bench.lock
	@touch $@

.PHONY: help up test check unit properties fuzz evaluate latency bench bench-ingest soak chaos bench-quick bench-report gen format docs lock clean
