# Two commands for a newcomer: `make demo` and `make test`. Each makes the environment first if it is stale.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = $(VENV)/.demo
DEV = $(VENV)/.dev
PYTEST = $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo test test-fast test-all check lint types doctest notebooks benchmarks clean

demo: $(DEMO)
	$(BIN)/python -m jaxelbo $(ARGS)

test: $(DEV)
	$(PYTEST) $(ARGS)

test-fast: $(DEV)
	$(PYTEST) -m "not slow and not matrix" $(ARGS)

# The whole matrix of estimators, bounds and families too.
test-all: $(DEV)
	$(PYTEST) -m "" $(ARGS)

check: lint types doctest

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/pyright --pythonpath $(BIN)/python

doctest: $(DEV)
	$(PYTEST) --doctest-modules jaxelbo

# Runs the notebooks in full and writes the .ipynb, with its outputs, beside each .py. The stored 05 was run with
# JAXELBO_TREEBANK and JAXELBO_REVIEWS, the folders of its texts; without them it takes small stand-ins.
notebooks: $(DEV)
	$(BIN)/python -m notebooks.execute

benchmarks: $(DEV)
	$(BIN)/python -m benchmarks.step_cost
	$(BIN)/python -m benchmarks.first_use
	$(BIN)/python -m benchmarks.leaves
	$(BIN)/python -m benchmarks.gradient_estimators
	$(BIN)/python -m benchmarks.gaussian_kls
	$(BIN)/python -m benchmarks.mixture
	$(BIN)/python -m benchmarks.long_runs
	$(BIN)/python -m benchmarks.scaling

$(DEMO): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "jaxelbo needs Python 3.11 or newer: make demo PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) ".[demo]"
	touch $@

$(DEV): $(DEMO)
	$(INSTALL) ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
