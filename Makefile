# make demo   train two students on handwritten digits, alone and together, and compare (a few minutes)
# make test   the test suite
# make test-slow   what takes minutes: a run killed more than fifty times, thousands of odd inputs
# make test-cuda   what must hold on a GPU, which the other tests leave alone
# make lint   style and types
# make docs   the documentation site, in site/
# Each creates .venv and installs what it needs when that is missing.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow test-cuda lint tables docs clean

demo: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh recipes/demo/run.sh

test: $(INSTALLED)
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(INSTALLED)
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-cuda: $(INSTALLED)
	$(BIN)/python -m pytest tests/training/test_cuda.py -p no:xdist

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy codistill examples

tables: $(INSTALLED)
	$(BIN)/python docs/update_tables.py

docs: .venv/installed-docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs site

.venv/installed-docs: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch .venv/installed-docs

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis
