# make setup   a virtual environment in .venv with everything installed
# make demo    the whole recipe on the mini corpus; run again, it goes on or redoes nothing; installs
#              only what it needs, `make setup` adds the rest (make demo DEMO_ARGS="--set opt.lr=0.001")
# make test    every test, in a process per core (make test ARGS="-k psds" for some, in one)
# make lint    style, types, shell scripts and the Dockerfile
# make clean   remove .venv and caches; data, embeddings and runs stay
#
# make setup PYTHON=python3.12             another interpreter, 3.10 to 3.14
# make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                                          torch from that package index, everything else as usual
# make setup TORCH="torch==2.13.0"         that torch instead of the newest that pyproject.toml allows

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
TORCH_INDEX ?=
ARGS ?=
EXTRAS ?= dev
PIP_OPTIONS ?=
DEMO_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The recipe alone, for the demo; not asked for where everything is installed.
RECIPE_STAMP := $(VENV)/.installed_recipe
DEMO_STAMP := $(firstword $(wildcard $(STAMP)) $(RECIPE_STAMP))
# The first line is the recipe's own; extras narrow it.
ALLOWED_TORCH := $(shell sed -n '/^ *"\(torch[<>=][^"]*\)".*/{s//\1/p;q;}' pyproject.toml)
SHELL_SCRIPTS := conda_create_environment.sh .ci/run

.PHONY: help setup torch demo test lint clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

define make_environment
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v < (3, 15) else \
	    f"Python {v[0]}.{v[1]} will not do: choose one from 3.10 to 3.14, as in make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
endef

define install_torch
	$(BIN)/python $(strip -m pip install $(PIP_OPTIONS) $(TORCH_INDEX:%=--index-url %) \
	    "$(or $(TORCH),$(ALLOWED_TORCH))")
endef

setup: $(STAMP)

# What takes longest of a setup, and writes only to the environment: it may run beside another one.
torch:
	$(make_environment)
	$(install_torch)

# The stamp is written last, so that an installation that failed is tried again. The version is in
# desed_task/__init__.py.
$(STAMP) $(RECIPE_STAMP): pyproject.toml desed_task/__init__.py
	$(make_environment)
	@rm -rf desed_task.egg-info # of an earlier version, which would be taken for the installed one
ifneq ($(TORCH)$(TORCH_INDEX),)
	$(install_torch)
endif
	$(BIN)/python $(strip -m pip install --editable $(WHAT) $(PIP_OPTIONS))
	@touch $@

$(STAMP): WHAT = ".[$(EXTRAS)]"
# pip would compile 16,000 modules one by one; the demo imports 4,000, which Python compiles then.
$(RECIPE_STAMP): WHAT = .
$(RECIPE_STAMP): PIP_OPTIONS += --no-compile

# No file stands for a step: each script knows what it has done and what is left. Without compiled
# modules each step would compile them again, so they are kept, whatever the environment says.
demo: export PYTHONDONTWRITEBYTECODE =
demo: $(DEMO_STAMP)
	$(BIN)/python generate_dcase_task4_2024.py --mini
	$(BIN)/python extract_embeddings.py --conf_file confs/mini.yaml
	$(BIN)/python train_pretrained.py --conf_file confs/mini.yaml --log_dir exp/mini \
	    --resume_from_checkpoint auto $(DEMO_ARGS)

# Whoever gives ARGS mostly wants a few tests, which are faster in one process than several start.
test: setup
	$(BIN)/python -m pytest $(or $(ARGS),-q -n auto)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy desed_task
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/hadolint Dockerfile

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
