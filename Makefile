# `make demo` and `make test` need Python 3.11 to 3.13, make and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BENCH := $(VENV)/installed-bench

.PHONY: help install demo test test-slow test-gpu coverage check bench docs format constraints clean

help:
	@echo "make demo         build a small world of real clips and take it through every stage"
	@echo "make test         run the tests, but for the slow ones"
	@echo "make test-slow    run the slow tests"
	@echo "make test-gpu     run the tests that need a GPU, with torch, transformers and pytest alone (PYTHON=...)"
	@echo "make coverage     run all tests and report lines and branches that none reaches"
	@echo "make check        ruff, mypy, import rules, dead code, dependencies, the documentation's links"
	@echo "make docs         build the documentation into site/"
	@echo "make bench        run every benchmark at brief sizes, and write benchmarks/results.md"
	@echo "make format       apply ruff's formatting and fixes"
	@echo "make install      create $(VENV) with everything the above need"
	@echo "make constraints  write the versions in $(VENV) to constraints.txt"
	@echo "make clean        remove $(VENV)"

install: $(STAMP)

# pip is asked only when what it would read has changed, so a second call installs nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "vtr needs Python 3.11 to 3.13, this is %d.%d: set PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[experts,ray,serve,docs,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/vtr demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Of $(PYTHON), which need not be this project's: nothing is installed, and tests of what it lacks are skipped by name.
test-gpu:
	@$(PYTHON) -c 'import importlib.util as u, sys; lacks = [n for n in ("torch", "transformers", "pytest") if not u.find_spec(n)]; sys.exit("%s lacks %s: set PYTHON=... to one that has them" % (sys.executable, ", ".join(lacks)) if lacks else 0)'
	PYTHONPATH=. VTR_EXPECT_GPU=1 $(PYTHON) -m pytest tests/gpu --confcutdir=tests/gpu -m gpu

coverage: $(STAMP)
	COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

check: $(STAMP) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture vtr feature_extraction
	$(BIN)/vulture vtr feature_extraction benchmarks docs tests
	$(BIN)/deptry vtr feature_extraction benchmarks

# Strict: a link, an anchor or a page that is missing fails it.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

bench: $(BENCH)
	$(BIN)/python benchmarks/run.py

# What losses are compared with.
$(BENCH): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Without local tags such as +cpu, so that the pins hold on every machine, and without python-dateutil, of which s3fs
# needs an older version than the others take.
constraints: $(STAMP)
	{ echo '# The versions that the tests run with, from `make constraints`. Use: pip install -c constraints.txt ...'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed -e 's/+[[:alnum:].]*$$//' -e '/^python-dateutil==/d'; \
	} > constraints.txt

clean:
	rm -rf $(VENV)
