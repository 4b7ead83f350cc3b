# Every target sets itself up: Python 3.11+, make, git and a package index are all that a machine needs.
PYTHON ?= python3
SCALE ?= 1
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up shell test faults faults-short lint check audit docs lock clean

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
	@$(BIN)/python -m app.local demo --scale $(SCALE)

up: setup ## keep web, workers, beat and the embedded servers running until Ctrl-C
	@$(BIN)/python -m app.local up

shell: setup ## flask shell on the stack that `make up` runs
	@$(BIN)/python -m app.local shell

test: setup ## the whole suite, on embedded servers
	@$(BIN)/python -m pytest

faults: setup ## the fault laboratory's long form: over 200 seeded runs with real processes, and their table
	@$(BIN)/python -m tests.faults

faults-short: setup ## each fault of the laboratory once (part of make test, too)
	@$(BIN)/python -m tests.faults --short

lint: setup ## style, imports and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check: lint test ## what CI runs

audit: setup ## known vulnerabilities of the locked packages; fails when the service can't be asked
	@$(BIN)/python .ci/audit.py

docs: setup ## write docs/configuration.md from the settings
	@$(BIN)/python -m app.config_reference > docs/configuration.md

lock: setup ## write the lock files anew from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --extra local --extra sqs --extra dev -c requirements.lock pyproject.toml \
	  -o requirements-dev.lock

clean: ## remove .venv and what the tools left behind
	@rm -rf .venv .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
