# Everything from a bare python3 (3.11 or newer) and inside this checkout: packages go to
# .venv, the demo's base model to .paw. A second run installs nothing.

PYTHON ?= python3
RUN := .venv/bin/python -m
INSTALL := $(RUN) pip install --quiet --disable-pip-version-check

export PAW_MLX_HOME := $(CURDIR)/.paw

.PHONY: demo test check fix docs parity llamacpp clean
.NOTPARALLEL:

demo: .venv/.run          ## watch the example programs run on held-out inputs
	@.venv/bin/paw-mlx demo

test: .venv/.dev          ## run the tests
	@$(RUN) pytest -n auto --ignore-glob='*/test_often_*'

check: .venv/.dev         ## lint, format, types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

fix: .venv/.dev           ## let ruff repair what it can
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

docs: .venv/.docs         ## build the documentation into .site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@echo "The documentation is in .site/index.html"

parity: .venv/.oracles    ## compare with transformers, peft, gguf and the official SDK
	@$(RUN) pytest tests/parity

llamacpp: .venv/.llamacpp ## compare with llama.cpp; it compiles for a quarter of an hour
	@.venv/bin/paw-mlx pull smollm2-135m
	@$(RUN) pytest tests/parity/test_llamacpp.py tests/parity/test_written_adapters.py

clean:                    ## remove all that this file and the tools made
	@rm -rf .venv .paw .site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or newer is \
	needed and $(PYTHON) is %s: name another with make PYTHON=..." % sys.version.split()[0])'
	@$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.run: pyproject.toml | .venv/.made
	@echo "Installing paw-mlx into .venv"
	@$(INSTALL) -e '.[blas]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/.made
	@echo "Installing paw-mlx and its developer tools into .venv"
	@$(INSTALL) -e '.[blas,dev]'
	@touch .venv/.run $@

.venv/.oracles: tests/parity/requirements.txt tests/parity/sdk.txt .venv/.dev
	@echo "Installing the oracles into .venv"
	@$(INSTALL) -r tests/parity/requirements.txt
	@$(INSTALL) --no-deps -r tests/parity/sdk.txt
	@touch $@

.venv/.docs: .venv/.dev
	@echo "Installing what builds the documentation into .venv"
	@$(INSTALL) -e '.[docs]'
	@touch $@

.venv/.llamacpp: .venv/.dev
	@echo "Compiling llama-cpp-python into .venv"
	@$(INSTALL) llama-cpp-python==0.3.36
	@touch $@
