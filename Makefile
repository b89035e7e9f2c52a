# Each target makes what it needs: a .venv in this folder, made once, renewed when
# requirements/*.txt, pyproject.toml, the folder's place or PYTHON changes.

PYTHON ?= python3
DIR ?= $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
WORKERS ?= 8
FOR ?= 20
TESTS ?= tests
# Most tests wait, for other processes: so several run at a time, however few CPUs there are.
AT_ONCE ?= 4

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# -qq: errors only. The files are complete and hashed, so nothing else can be installed.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
PIP_INSTALL := $(PIP) install --retries 8 --timeout 60 --require-hashes -r
CODE := $(wildcard src examples bench tests)
# Tests start hundreds of processes, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
RESULTS := build/checksums.jsonl

##@ Use

.PHONY: demo
demo: $(VENV)/.demo  ## Run a service with traffic beside it for FOR (20) seconds, and print where its page is.
	@echo "demo: workpool serve examples/service.yaml, more messages and batches than it can always take, then SIGTERM"
	@$(BIN)/python -m examples.traffic --seconds $(FOR)

.PHONY: demo-distributed
demo-distributed: $(VENV)/.demo  ## Run a NATS server, a producer and two services, kill one of these, and count.
	@$(BIN)/python -m examples.distributed

.PHONY: checksums
checksums: $(VENV)/.demo  ## Checksum every file below DIR (the standard library) with a pool of WORKERS (8) threads.
	@mkdir -p $(dir $(RESULTS)); rm -f $(RESULTS)
	@echo "checksums: the SHA-256 of every file below $(DIR), by $(WORKERS) workers"
	find "$(DIR)" -type f | $(BIN)/workpool run examples.checksums:checksum --workers $(WORKERS) --progress --output $(RESULTS)
	@echo "checksums: the first 3 of $$(wc -l <$(RESULTS)) results, all of them in $(RESULTS):"
	@head -n 3 $(RESULTS)

##@ Develop

.PHONY: test
test: $(VENV)/.test  ## Run the tests, AT_ONCE (4) at a time; TESTS="tests/core -x" runs some of them.
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist loadfile $(TESTS)

.PHONY: chaos
chaos: $(VENV)/.test  ## Kill services, servers and leaders, and cut connections, amid 100,000 items each; ten minutes.
	CHAOS=1 timeout 600 $(BIN)/python -m pytest -s tests/jetstream/test_chaos.py

.PHONY: bench
bench: $(VENV)/.bench  ## Run the benchmarks, which print the cost of an item.
	$(BIN)/python -m bench $(BENCH)

.PHONY: picture
picture: $(VENV)/.test  ## Make the pictures of the page in docs/ anew; needs chromium.
	$(BIN)/python -W ignore -m tests.browser.picture docs

.PHONY: lint lint-style lint-format lint-mypy lint-pyright lint-imports
lint: lint-style lint-format lint-mypy lint-pyright lint-imports  ## Check style, format, types (mypy and pyright, strict) and who may import whom.
lint-style: $(VENV)/.lint
	$(BIN)/ruff check --quiet .
lint-format: $(VENV)/.lint
	$(BIN)/ruff format --check --quiet .
lint-mypy: $(VENV)/.lint
	$(BIN)/mypy $(CODE)
lint-pyright: $(VENV)/.lint
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
lint-imports: $(VENV)/.lint
	$(BIN)/lint-imports --no-logo --cache-dir build/import-linter

.PHONY: format
format: $(VENV)/.lint  ## Put the code into its one format, and mend what ruff can mend.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: $(VENV)/.lint  ## Pin again what requirements/*.in and pyproject.toml ask for; UPGRADE=1 takes the newest.
	$(COMPILE) -o requirements/core.txt requirements/core.in
	$(COMPILE) -o requirements/demo.txt -c requirements/core.txt --extra cli --extra nats --extra nats-server --extra service pyproject.toml requirements/demo.in
	$(COMPILE) -o requirements/test.txt -c requirements/core.txt -c requirements/demo.txt requirements/test.in
	$(COMPILE) -o requirements/bench.txt -c requirements/core.txt -c requirements/demo.txt -c requirements/test.txt requirements/bench.in
	$(COMPILE) -o requirements/lint.txt -c requirements/demo.txt -c requirements/test.txt requirements/lint.in

COMPILE = UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make requirements" $(if $(UPGRADE),--upgrade)

.PHONY: venv
venv: $(VENV)/.lint  ## Make the .venv with everything in it; the other targets do so themselves.

.PHONY: clean
clean:  ## Take away everything that make made: .venv, build, caches.
	rm -rf $(VENV) build dist .hypothesis .ruff_cache .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## List the targets.
	@awk 'BEGIN { FS = ":.*  ## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*  ## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The environment. Each stage adds one file of requirements to the stage before it.

$(VENV)/.demo: requirements/demo.txt pyproject.toml $(VENV)/.python
	@echo "set-up: the demo's requirements, and workpool itself, into $(VENV)"
	@$(PIP_INSTALL) $<
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.demo
	@echo "set-up: the tests' requirements into $(VENV)"
	@$(PIP_INSTALL) $<
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.test
	@echo "set-up: what is measured beside it into $(VENV)"
	@$(PIP_INSTALL) $<
	@touch $@

$(VENV)/.lint: requirements/lint.txt $(VENV)/.test
	@echo "set-up: the checkers into $(VENV) (a minute, once)"
	@$(PIP_INSTALL) $<
	@touch $@

# Runs each time, and changes nothing while the same Python and the same folder are meant.
# The base executable: PYTHON may be the very environment that is to be made anew.
$(VENV)/.python: FORCE
	@command -v $(PYTHON) >/dev/null || { echo "set-up: no $(PYTHON) here; name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"set-up: workpool needs Python 3.11 or later, $(PYTHON) is {sys.version}")'
	@base=$$($(PYTHON) -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)'); \
	wanted="$$("$$base" -c 'import sys; print(sys.version.replace("\n", " "))') of $$base in $(CURDIR)"; \
	if [ "$$(cat $@ 2>/dev/null)" != "$$wanted" ] || ! $(BIN)/python -c '' 2>/dev/null; then \
	  echo "set-up: a new $(VENV) with $$("$$base" --version)"; \
	  "$$base" -m venv --clear $(VENV) || { echo "set-up: could not make it; Debian has venv in the package python3-venv" >&2; exit 1; }; \
	  echo "$$wanted" >$@; \
	fi

.PHONY: FORCE
FORCE:
