# Every target sets itself up: Python 3.11+, make, git and a package index are all that a machine needs.
PYTHON ?= python3
SCALE ?= 1
BROKER ?= valkey
VARIANT ?= own
# One more than there are cores: the tests of workers wait for them some of the time.
PROCESSES ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# Each process starts servers of its own. They must name the same tests in the same order, those of sets, too. Which are
# done together and what comes first: tests/scheduling.py.
IN_PROCESSES := -n $(PROCESSES) --dist loadscope --no-loadscope-reorder
# What needs no worker process, and of the tests on servers those of the steps themselves.
FAST := tests/unit tests/faults/test_checker.py tests/faults/test_policies.py tests/faults/test_guards.py \
  tests/security/test_no_values_in_sql.py tests/integration/test_chains.py tests/integration/test_messages.py \
  tests/integration/test_test_notifications.py
export PYTHONHASHSEED ?= 0
# Where a shell forbids it to keep what it compiles, each of hundreds of processes compiles the product and its tests anew.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
PYTEST ?= $(BIN)/python -m pytest
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up shell test test-fast test-all mutants bench faults faults-short lint check audit docs lock release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv from the locked, hashed requirements (quick when nothing changed)

$(STAMP): requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing the locked requirements into .venv (once, about half a minute)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements-dev.lock
	@touch $(STAMP)

demo: setup ## a night from beat to history on embedded servers, verified (SCALE=10: ten times the data)
	@$(BIN)/python -m dev demo --scale $(SCALE)

up: setup ## keep web, workers, beat and the embedded servers running until Ctrl-C
	@$(BIN)/python -m dev up

shell: setup ## flask shell on the stack that `make up` runs
	@$(BIN)/python -m dev shell

test: setup ## the whole suite, on embedded servers (PROCESSES=0: in one process)
	@$(PYTEST) $(IN_PROCESSES)

test-fast: setup ## within a minute: the unit tests, and those of the steps themselves
	@$(BIN)/python -m pytest -q $(IN_PROCESSES) $(FAST)

test-all: test ## the suite, and what may differ on the real PostgreSQL, Redis and RabbitMQ that answer here
	@.ci/on-real-servers

mutants: setup ## put faults into a copy, one at a time, and see that the tests notice (docs/testing.md)
	@$(BIN)/python -m tests.mutants

faults: setup ## the fault laboratory's long form: over 200 seeded runs with real processes (BROKER=redis|rabbitmq|sqs VARIANT=va-notify)
	@$(BIN)/python -m tests.faults --broker $(BROKER) --variant $(VARIANT)

faults-short: setup ## each fault of the laboratory once (part of make test, too)
	@$(BIN)/python -m tests.faults --broker $(BROKER) --variant $(VARIANT) --short

bench: setup ## every benchmark, beside the reference and the floor (make bench-drain: one; docs/benchmarks.md)
	@$(BIN)/python -m benchmarks

bench-%: setup
	@$(BIN)/python -m benchmarks $*

lint: setup ## style, imports and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint test ## what CI runs

release: setup ## build the sdist and the wheel into dist/, and try the wheel in a clean environment
	@PYTHON=$(PYTHON) .ci/release

audit: setup ## known vulnerabilities of the locked packages; fails when the service can't be asked
	@$(BIN)/python .ci/audit.py

docs: setup ## write what is generated of docs/ from the code
	@$(BIN)/python -m app.config_reference > docs/configuration.md
	@$(BIN)/python -m app.reference > docs/reference.md
	@$(BIN)/python -m app.policies_reference

lock: setup ## write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --extra sqs pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --extra archive --extra local --extra sqs --extra dev \
	  -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## remove .venv and what the tools left behind
	@rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
