PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# What is never imported need not be compiled; the rest is at its first import.
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt
READY := $(VENV)/.ready
# Tests start the commands about a hundred times; without it each time compiles the project again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test check coverage accept-work format clean

setup: $(READY)

# An older pip takes twice as long. torch comes first and pinned: left to itself pip takes the newest build with
# gigabytes of CUDA packages.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/mmse demo

test: check
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Which lines and branches the tests reach, in their processes too; takes twice as long as the tests.
coverage: setup
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=miss --precision=2

# The work of the hot paths, as tests/hot_paths/test_hot_paths.py holds it, becomes what it is now.
accept-work: setup
	PYTHONPATH=tests $(BIN)/python tests/hot_paths/count_work.py --accept

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist demo
