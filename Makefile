# From a bare machine with Python >= 3.11 and make: `make run`. The rest is one line each; `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help run demo psql test quick torture clients minors image-check bench instructions check format install lock upgrade clean

# The newest Python that will do; PYTHON=/path/to/python overrides it.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: $(BIN)/.run-installed ## Serve the gateway on http://127.0.0.1:4000, with a Postgres of its own; Ctrl-C stops all of it
	@$(BIN)/python -m gateway_project.run --stop-with-parent

demo: $(BIN)/.run-installed ## The same with simulated providers and sample traffic: no provider key is needed
	@$(BIN)/python -m tests.simulator.demo

psql: $(BIN)/.run-installed ## Open psql on the gateway's database
	@$(BIN)/python manage.py dbshell

bench: $(BIN)/.test-installed ## Measure us, LiteLLM and Portkey in one run (installs them into .bench); make bench ARGS=--quick
	@$(BIN)/python -m bench $(ARGS)

instructions: $(BIN)/.test-installed ## Count a request's instructions (needs valgrind), and fail by name above bench/budget.toml
	@$(BIN)/python -m bench.instructions $(ARGS)

# GATEWAY_ENV_FILE: tests and checks mean the same on every machine, whatever its .env says.
test: $(BIN)/.test-installed ## Run the whole suite; make test ARGS="tests/unit -k environment" runs a part
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m pytest $(ARGS)

# No gateway, no harm to Postgres, no corpus: the loop while a change is made.
QUICK := tests/unit tests/documentation tests/breakers tests/wire/test_relay.py tests/wire/test_dialects.py \
	tests/wire/test_conforming.py tests/wire/test_wordings.py tests/ledger/test_holds.py tests/ledger/test_batches.py \
	tests/ledger/test_lock_order.py tests/ledger/test_corrections.py tests/ledger/test_views.py

quick: $(BIN)/.test-installed ## Run the tests that need no gateway of their own, in under two minutes
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m pytest -q $(QUICK) $(ARGS)

# Not collected by `make test`: its files are not called test_*.
torture: $(BIN)/.test-installed ## Run the long forms: the ledger's storms, 50 rounds of kill -9, a soak, a million entries; 20,000 bounds, 2,000 random requests
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m pytest -s --timeout=7200 tests/torture/torture_*.py $(ARGS)

# What takes the place of a library's code (docs/adr/0015, 0020, 0021, 0025, 0026), and what waits for Postgres.
REPLACED := tests/unit/test_worker.py tests/unit/test_plain_requests.py tests/unit/test_framing.py tests/unit/test_json_text.py \
	tests/unit/test_entry.py tests/wire/test_transport.py tests/ledger/test_pipeline.py tests/ledger/test_holds.py \
	tests/e2e/test_entry.py tests/e2e/test_http_surface.py tests/e2e/test_bad_input.py

minors: ## Test what takes the place of a library's code on every Python from 3.11 on that is here, each in a .minors/ of its own
	@for minor in 3.11 3.12 3.13 3.14; do \
		python=$$(ls -d $$(command -v python$$minor) ~/.pyenv/versions/$$minor.*/bin/python 2>/dev/null | while read -r found; do \
			"$$found" -c '' 2>/dev/null && echo "$$found" && break; done); \
		if [ -z "$$python" ]; then echo "Python $$minor is not here."; continue; fi; \
		$(MAKE) --no-print-directory test VENV=.minors/$$minor PYTHON=$$python ARGS="-q $(REPLACED)" || exit 1; \
	done

# Needs root and debootstrap (apt-get install debootstrap), and minutes: pip installs every wheel afresh.
image-check: $(BIN)/.test-installed ## Run the Dockerfile's steps in a clean Debian by debootstrap, and serve from what they make
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m pytest -s --timeout=3600 tests/torture/image.py $(ARGS)

# Not collected by `make test` either: npm installs 650 MB.
clients: $(BIN)/.test-installed ## Let Claude Code, Codex and gemini-cli work twenty steps through the gateway, over each provider and one that dies
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m pytest --timeout=600 tests/clients/clients_*.py $(ARGS)

check: export GATEWAY_ENV_FILE := /dev/null
check: $(BIN)/.test-installed ## Check format, lint, types, import direction, deployment settings and missing migrations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@HOST=0.0.0.0 DATABASE_URL=postgresql://gateway@localhost/gateway ALLOWED_HOSTS=gateway.example \
		SECRET_KEY=only-for-this-check-9f8d7a6b5c4e3f2a1b0c9d8e7f6a5b4c $(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(BIN)/python manage.py makemigrations --check --dry-run

format: $(BIN)/.test-installed ## Format the code and fix what the linter can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

install: $(BIN)/.test-installed ## Install what is locked into .venv, if it is not there yet; the other targets do so by themselves

lock: $(BIN)/.test-installed ## Compile requirements*.in to requirements*.txt with hashes; what is locked already keeps its version
	@$(BIN)/python -m tools.lock

upgrade: $(BIN)/.test-installed ## Lock another version, test the translation, report; make upgrade NAME=litellm [VERSION=1.110.2]
	@GATEWAY_ENV_FILE=/dev/null $(BIN)/python -m tools.upgrade $(if $(NAME),"$(NAME)") $(if $(VERSION),"$(VERSION)")

clean: ## Remove what the tools made: .venv and caches, not .data
	rm -rf .venv .minors .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One virtual environment. Each stamp is as new as the locks it was installed from. A file whose hash is not in the lock
# is refused.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is not Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a venv; on Debian: apt-get install python3-venv"; exit 1; }

$(BIN)/.run-installed: requirements.txt | $(BIN)/python
	@echo "Installing requirements.txt into $(VENV) ..."
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(BIN)/.test-installed: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing requirements-dev.txt into $(VENV) ..."
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@ $(BIN)/.run-installed
