# Two commands:  make quickstart  (train, convert, report on a small data set)  ·  make test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: quickstart test test-slow lint docs clean

quickstart: $(VENV)/installed-all
	@$(BIN)/leanspike train digits --out runs/quickstart --fresh

test: lint
	@$(BIN)/python -m pytest

test-slow: $(VENV)/installed-dev
	@$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check src tests benchmarks docs
	@$(BIN)/ruff format --check src tests benchmarks docs
	@$(BIN)/mypy

docs: $(VENV)/installed-docs
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html" >&2

# The stamp of each environment is newer than pyproject.toml once it is installed.
$(VENV)/installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leanspike needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")' >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing leanspike and its dependencies into $(VENV) (torch is large, this can take minutes) ..." >&2
	@$(BIN)/python -m pip install --quiet --editable '.[$*]' >&2
	@touch $@

clean:
	rm -rf $(VENV)
