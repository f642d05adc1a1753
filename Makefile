# Everything happens inside .venv; the system's Python is only asked to make it.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 2323
WEB_PORT ?= 8080
DATA ?= data
# Another Python can have an environment of its own: `make test PYTHON=python3.13 VENV=.venv-3.13`.
VENV := .venv
# `make lock LOCK=--upgrade` takes the newest releases; without it, pins that still fit are kept.
LOCK ?=
# `make test COVERAGE=yes` counts the lines and branches too; Python 3.11 then needs a third more time for the tests.
COVERAGE ?=

BIN := $(VENV)/bin
# A stamp names the Python that the environment was made with: another one makes it anew.
MADE := $(VENV)/.made-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# A lock file is a closure. It is installed as it stands, and never resolved: a later release of anything changes nothing.
INSTALL := $(PIP) install --no-deps --require-hashes
EDITABLE := $(PIP) install --no-deps --no-build-isolation --editable .
COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header $(LOCK)
COUNTING := $(if $(COVERAGE),--cov --cov-report term)
# What the installed script and its metadata are made from.
PROJECT := pyproject.toml callisto_telnetd/__init__.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test test-long bench format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.runtime ## Serve on HOST=127.0.0.1 PORT=2323, the web on WEB_PORT=8080, with the data folder DATA=data
	@# In the place of the shell: a Ctrl-C is then the server's alone, whose end is a clean one.
	exec env CALLISTO_SERVICES__WEB_SERVER__HOST="$(HOST)" CALLISTO_SERVICES__WEB_SERVER__PORT="$(WEB_PORT)" \
		$(BIN)/callisto-telnetd serve --host "$(HOST)" --port "$(PORT)" --data "$(DATA)"

test: $(VENV)/.dev ## Run every check: format, lint, types, layers, tests (COVERAGE=yes: and branch coverage)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m compileall -q callisto_telnetd  # once, and not by each server that the tests start
	@# mypy has one processor busy, and tests often wait: side by side they are done sooner. Its lines come last.
	$(BIN)/mypy >$(VENV)/mypy.log 2>&1 & types=$$!; trap "kill $$types 2>/dev/null" INT TERM; \
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile $(COUNTING); tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/mypy.log; exit $$((tests | types))

test-long: $(VENV)/.dev ## Run the tests that take minutes, and the laws with many more examples
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "long or hypothesis"

bench: $(VENV)/.dev ## Measure speed and memory
	$(BIN)/python -m bench

format: $(VENV)/.dev ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev ## Pin the closures of pyproject.toml again (LOCK=--upgrade: the newest releases)
	$(COMPILE) --output-file requirements.lock pyproject.toml
	$(COMPILE) --group build --constraints requirements.lock --output-file requirements-build.lock
	$(COMPILE) --group dev --constraints requirements.lock --constraints requirements-build.lock \
		--output-file requirements-dev.lock pyproject.toml

clean: ## Remove what make made; the data folder stays
	rm -rf $(VENV) .venv-3.* build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find bench callisto_telnetd tests -type d -name __pycache__ -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "callisto-telnetd: $(PYTHON) is not Python 3.11 or newer; name one that is, as in: make run PYTHON=python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(MADE) requirements.lock requirements-build.lock $(PROJECT)
	$(INSTALL) -r requirements.lock -r requirements-build.lock
	$(EDITABLE)
	$(PIP) check
	@touch $@

# The development closure holds the other two, pinned alike.
$(VENV)/.dev: $(MADE) requirements-dev.lock $(PROJECT)
	$(INSTALL) -r requirements-dev.lock
	$(EDITABLE)
	$(PIP) check
	@touch $@ $(VENV)/.runtime
