# Everything from a bare python3 (3.11 or newer) and inside this checkout: packages go to
# .venv, the demo's base model to .paw. A second run installs nothing.

PYTHON ?= python3
RUN := .venv/bin/python -m
INSTALL := $(RUN) pip install --quiet --disable-pip-version-check

export PAW_MLX_HOME := $(CURDIR)/.paw

# Pinned with their hashes: what a plain install brings, and what testing and building need.
# `make lock` keeps what still fits pyproject.toml; `make lock LOCK=--upgrade` takes the newest.
LOCK :=
COMPILE := .venv/tools/bin/uv pip compile --quiet $(LOCK) --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command 'make lock' \
	--constraint tests/parity/requirements.txt pyproject.toml
TOOLS := uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0

.PHONY: demo test slow fuzz kills soak mutants check fix docs parity llamacpp lock audit wheel sbom clean
.NOTPARALLEL:

demo: .venv/.run          ## watch the example programs run on held-out inputs
	@.venv/bin/paw-mlx demo

# More than two: tests wait for processes that they start, for about half of their time.
AT_ONCE := $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores > 4 ? cores : 4)))

test: .venv/.dev          ## run the tests that take no seconds each
	@$(RUN) pytest -n $(AT_ONCE) -m 'not slow'

slow: .venv/.dev          ## run the tests that take seconds each, or kill again and again
	@$(RUN) pytest -n auto -m slow --ignore tests/parity

# make fuzz FUZZ='--seconds 7200 --jobs 2'; tests/fuzz/README.md has more
FUZZ := --seconds 600

fuzz: .venv/.atheris      ## send damaged and hostile files through every reader
	@PYTHONPATH=$(CURDIR)/.venv/atheris $(RUN) tests.fuzz $(FUZZ)

kills: .venv/.dev         ## kill commands at a thousand of their changes on the disk
	@$(RUN) tests.kills

soak: .venv/.dev          ## make a hundred thousand mixed calls each way; what is left, and are they right?
	@$(RUN) tests.soak

mutants: .venv/.mutants   ## change the code a place at a time, and count what the tests find
	@$(RUN) tests.mutants --tool .venv/mutants/bin/cosmic-ray

check: .venv/.dev         ## lint, format, types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

fix: .venv/.dev           ## let ruff repair what it can
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

docs: .venv/.dev          ## build the documentation into .site; a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@echo "The documentation is in .site/index.html"

parity: .venv/.oracles    ## compare with transformers, peft, gguf and the official SDK
	@$(RUN) pytest tests/parity

llamacpp: .venv/.llamacpp ## compare with llama.cpp; it compiles for a quarter of an hour
	@.venv/bin/paw-mlx pull smollm2-135m
	@$(RUN) pytest tests/parity/test_llamacpp.py tests/parity/test_written_adapters.py

lock: .venv/.tools        ## pin what pyproject.toml asks for, with hashes
	@$(COMPILE) --output-file requirements.txt
	@$(COMPILE) --extra blas --extra dev --extra docs --constraint requirements.txt \
	  --output-file requirements-dev.txt

audit: .venv/.tools       ## ask which pinned packages have known vulnerabilities
	@.venv/tools/bin/python .ci/audit.py requirements.txt requirements-dev.txt

wheel: .venv/.dev         ## build the wheel into dist: of one commit always the same bytes
	@rm -rf build/sources dist && mkdir -p build/sources
	@git archive HEAD | tar -x -C build/sources
	@chmod -R u=rwX,go=rX build/sources
	@umask 022 && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(RUN) pip wheel --quiet \
	  --no-deps --no-build-isolation --wheel-dir dist ./build/sources

sbom: wheel .venv/.tools  ## list what a plain install brings, as CycloneDX JSON, into dist
	@rm -rf .venv/plain && $(RUN) venv --without-pip .venv/plain
	@$(RUN) pip --python .venv/plain install --quiet --require-hashes -r requirements.txt
	@$(RUN) pip --python .venv/plain install --quiet --no-deps --no-index --find-links dist paw-mlx
	@.venv/tools/bin/cyclonedx-py environment --output-reproducible \
	  --output-file dist/paw-mlx.cdx.json .venv/plain
	@echo "What a plain install brings is in dist/paw-mlx.cdx.json"

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

.venv/.dev: pyproject.toml requirements-dev.txt | .venv/.made
	@echo "Installing paw-mlx and its developer tools into .venv"
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch .venv/.run $@

.venv/.oracles: tests/parity/requirements.txt tests/parity/sdk.txt .venv/.dev
	@echo "Installing the oracles into .venv"
	@$(INSTALL) -r tests/parity/requirements.txt
	@$(INSTALL) --no-deps -r tests/parity/sdk.txt
	@touch $@

.venv/.tools: | .venv/.made
	@echo "Installing what pins, audits and lists packages into .venv/tools"
	@$(RUN) venv --clear .venv/tools
	@.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check $(TOOLS)
	@touch $@

.venv/.atheris: .venv/.dev
	@echo "Installing Atheris into .venv/atheris, where it has a wheel"
	@$(INSTALL) --no-deps --target .venv/atheris atheris==3.0.0 || true
	@touch $@

.venv/.mutants: .venv/.dev
	@echo "Installing Cosmic Ray into .venv/mutants"
	@$(RUN) venv --clear .venv/mutants
	@.venv/mutants/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
	@touch $@

.venv/.llamacpp: .venv/.dev
	@echo "Compiling llama-cpp-python into .venv"
	@$(INSTALL) llama-cpp-python==0.3.36
	@touch $@
