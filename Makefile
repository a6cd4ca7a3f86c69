# make demo   create an environment, install, train on the bundled digits
# make test   create an environment, install, lint, check types, run the tests
# make test-slow   tests that train for minutes (half an hour in all)
# make fuzz   property tests with new random examples
# make package  dist/*.tar.gz and dist/*.whl, installed outside this folder and tried
# make site   the documentation's pages, into site/
# make bench-gpu  everything there is to know of a GPU, in ten minutes (docs/gpu.md)
# make reproduce  go on with the tables of docs/reproduction: TABLE=annealing REPRODUCE="--jobs 2"
# make notebooks   run all cells and keep their outputs
# make bench  speed and memory beside other libraries (half an hour; BENCH="--check": compare)
# make clean  remove the environment
#
# Only Python 3.11 or later and make are needed. PYTHON chooses the interpreter
# and VENV the environment's folder.

PYTHON ?= python3
VENV ?= .venv
TABLE ?= best
BIN := $(VENV)/bin

.PHONY: demo test lint test-slow fuzz reproduce package site notebooks bench bench-gpu clean

demo: $(VENV)/.installed
	$(BIN)/bsnn-tha train digits

# Bytecode is kept, whatever the environment says: some fifty processes import the same.
test: lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/.installed-dev
	FUZZ=1 $(BIN)/python -m pytest -m "not slow" $$(grep -rl --include="test_*.py" "^from hypothesis import.*given" tests)

package: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m package tests/docs/test_package.py
	rm -rf dist build
	$(BIN)/python -m build --no-isolation .

reproduce: $(VENV)/.installed
	$(BIN)/bsnn-tha reproduce $(TABLE) --records docs/reproduction $(REPRODUCE)

site: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

notebooks: $(VENV)/.installed-dev
	$(BIN)/python docs/_site/notebooks.py

# What is measured is this checkout; the peers get environments of their own in .bench.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.peers $(BENCH)

bench-gpu: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu $(BENCH)

# torch first and alone: an installer that resolves everything at once may pick
# another build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$$(grep '^torch==' constraints.txt)
	touch $@

$(VENV)/.installed: $(VENV)/.torch setup.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
