# Every target sets itself up first; a second call finds the stamp and costs nothing.
#
#   make run     the main job: every notebook at its defaults, then the gallery
#   make test    ruff, unit tests, notebooks, browser test
#   make lab     JupyterLab on the notebooks
#   make lock    regenerate constraints.txt from pyproject.toml (LOCK_ARGS=--upgrade takes the newest versions)
#   make setup   only the virtual environment
#   make clean   remove .venv, build products and caches; runs/ and data/ stay
#
# DGMLAB_VENV   folder of the virtual environment (default .venv)
# PYTHON        interpreter to make it with (default: the first of PYTHONS that works)
# ARGS          more arguments for the command of the target, e.g. make test ARGS='-k elbo'
# UV_FIND_LINKS or PIP_FIND_LINKS   folder of local wheels

TORCH := 2.13.0
VENV := $(or $(DGMLAB_VENV),.venv)
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)
VPYTHON := "$(VENV)/bin/python"
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
# The checkout's path is part of the key: an editable install points at it.
KEY := $(shell { pwd; cat pyproject.toml constraints.txt; } | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.dgmlab-$(KEY)
# uv reads neither name of pip's for local wheels, and separates folders by commas where pip uses spaces.
FIND_LINKS := UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(echo $$PIP_FIND_LINKS | tr ' ' ',')}"
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# loadfile keeps a notebook's cells on one worker; tests/conftest.py puts the long files first.
PYTEST := -m pytest tests notebooks -n 2 --dist loadfile --no-loadscope-reorder --durations=15 \
	--nbval-lax --nbval-current-env --nbval-cell-timeout=300
LOCK := uv pip compile pyproject.toml --extra test --extra bench --universal --python-version 3.11 --no-annotate --constraint - -o constraints.txt

# uv leaves compiling to the first import; with this set, every import of torch and transformers would compile again (7 s).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test lab lock setup install clean

help:
	@sed -n 's/^#   make/make/p' Makefile

# The defaults train tiny models: two notebooks at once gain more than a second thread for each.
run: setup
	@$(ONE_THREAD) "$(VENV)/bin/dgmlab" run-all --slots 2 $(ARGS)

test: setup
	@$(VPYTHON) -m ruff check
	@$(ONE_THREAD) $(VPYTHON) $(PYTEST) $(ARGS)

lab: setup
	@$(VPYTHON) -m jupyterlab notebooks $(ARGS)

# Made without local wheels, so that one file serves machines with and without CUDA: as a constraint, its nvidia lines
# ask for nothing where torch is the CPU build.
lock: setup
	@echo 'torch==$(TORCH)' | env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(VPYTHON) -m $(LOCK) --quiet \
		--custom-compile-command "echo torch==$(TORCH) | $(LOCK)   (that is: make lock)" $(LOCK_ARGS)
	@grep -c '^[a-z].*==' constraints.txt | sed 's/$$/ versions in constraints.txt/'

setup:
	@test -f "$(STAMP)" || $(MAKE) --no-print-directory install

install:
	@$(VPYTHON) -c '$(SUITABLE)' 2>/dev/null || { \
		for python in $(PYTHONS); do \
			"$$python" -c '$(SUITABLE)' 2>/dev/null || continue; \
			echo "Making $(VENV) with $$python"; \
			if test -f "$(VENV)/pyvenv.cfg"; then exec "$$python" -m venv --clear "$(VENV)"; fi; \
			exec "$$python" -m venv "$(VENV)"; \
		done; \
		echo "error: Python 3.11 or newer with its venv module was expected, none found among: $(PYTHONS)." \
			"Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f "$(VENV)"/.dgmlab-*
	@if $(VPYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv; then \
		$(FIND_LINKS) $(VPYTHON) -m uv pip install --python $(VPYTHON) -c constraints.txt -e '.[test]'; \
	else \
		echo "uv cannot be installed here; pip does the same, more slowly"; \
		$(VPYTHON) -m pip install -c constraints.txt -e '.[test]'; \
	fi
	@touch "$(STAMP)"

clean:
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find dgmlab tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
