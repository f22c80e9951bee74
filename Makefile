PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted installation is done again.
STAMP := $(VENV)/installed

.PHONY: env demo test slow distributed gpu lint bench docs clean

env: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

demo: env
	$(BIN)/dcmnet demo

# In a process a core, each of which may take 3 GB; tests of a file share what its fixtures made.
test: env
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# What takes minutes and seldom fails alone: notebooks, kills, thousands of cases.
slow: env
	$(BIN)/python -m pytest -m slow --numprocesses logical --maxprocesses 4 --dist loadfile

# Extras, several processes, outages: what 'make test' leaves out.
distributed: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[all]' --group distributed
	$(BIN)/python -m pytest -m distributed --numprocesses 2 --dist loadfile --no-loadscope-reorder

# On a machine with a card of NVIDIA: the numbers of the processor, and how fast it trains.
gpu: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[gpu]' gpu4pyscf-cuda12x
	$(BIN)/python -m pytest -m gpu tests/test_gpu.py tests/benchmarks/test_gpu.py tests/pipeline/reference

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env
	$(BIN)/python -m pytest -m benchmark -s tests/benchmarks

# Pages for a browser, in site/.
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo site
