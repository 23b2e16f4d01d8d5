# Every target sets up what it needs in .venv by itself; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
CONNECTIONS ?= 10000

.DEFAULT_GOAL := help
.PHONY: help demo test check differential fuzz fuzz-guided chart image scenarios conformance interop promises soak bench format schema clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## an embedded Postgres, the proxy and a leaking application, for twelve seconds
	@$(BIN)/pgleash demo

test: $(VENV)/.test ## the whole test suite (needs PyPI alone)
	@$(BIN)/pytest

check: $(VENV)/.check ## ruff and mypy, as strict as they go
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

differential: $(VENV)/.test ## random scripts, directly and through the proxy, byte by byte: MINUTES=10 for each server
	@DIFFERENTIAL_MINUTES="$(or $(MINUTES),2)" $(BIN)/pytest -s tests/differential

fuzz: $(VENV)/.test ## mutated bytes for everything that looks at bytes: SECONDS=60, and SEED=1 for the same again
	@$(BIN)/python -m tests.fuzz.fuzz --seconds "$(or $(SECONDS),60)" $(if $(SEED),--seed "$(SEED)")

fuzz-guided: $(VENV)/.guided ## the same, led by coverage (Atheris, where it has a wheel): SECONDS=60
	@$(BIN)/python -m tests.fuzz.guided -max_total_time="$(or $(SECONDS),60)"

chart: $(VENV)/.chart ## render the Helm chart with a real Helm, and hold it against Kubernetes's schemas
	@$(BIN)/pytest tests/chart

image: $(VENV)/.image ## lint the Dockerfile; build and run the image as far as this machine can
	@PATH="$(abspath $(BIN)):$$PATH" tests/image/check

scenarios: $(VENV)/.interop ## Postgres 13 to 18 (from npm), or VERSIONS="13 18", and the mistakes to be named; ONLY="scram"
	@$(BIN)/pytest tests/scenarios --versions "$(VERSIONS)" -k "$(ONLY)"

interop: $(VENV)/.interop ## one script with every client there is, or CLIENTS="psycopg3 pg", VERSIONS="14 18"
	@$(BIN)/pytest tests/interop --clients "$(CLIENTS)" --versions "$(VERSIONS)"

conformance: $(VENV)/.test ## other people's test suites, directly and through pgleash; SUITES="isolation asyncpg", or all (long)
	@$(BIN)/pytest tests/conformance -s --suites "$(SUITES)"

promises: $(VENV)/.test ## rollbacks under load and in races, and honest clients: MINUTES=60 RACES=10000 TRANSACTIONS=1000000 SEED=1
	@$(BIN)/pytest tests/promises -s $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RACES),--races $(RACES)) \
	  $(if $(TRANSACTIONS),--transactions $(TRANSACTIONS)) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.test ## ten thousand connections through TLS, or CONNECTIONS=100000; memory has to stay flat
	@$(BIN)/pytest tests/soak -s --connections $(CONNECTIONS)

bench: $(VENV)/.test ## CPU per transaction beside PgBouncer and HAProxy, if they are installed; four minutes
	@$(BIN)/python benchmarks/bench.py

schema: $(VENV)/.test ## write config/schema.json anew from the options
	@$(BIN)/python -c 'from proxy.settings import json_schema; print(json_schema(), end="")' > config/schema.json

format: $(VENV)/.check ## let ruff put the code in order
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean: ## remove the virtual environment and every cache
	rm -rf $(VENV) .tools build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pgleash needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "this Python cannot make virtual environments (on Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }

# One stamp for each of pyproject.toml's extras.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) for $* ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
