# `make demo` and `make test` each make their own environment, from the pinned constraints.
# PIP_ARGS goes to every pip call, for a machine that wants another torch build:
#   make demo PIP_ARGS="--index-url URL"
PYTHON ?= python3
PIP_ARGS ?=
# Tests run in two processes; tests that use the same device of the machine share one (xdist_group).
PYTEST = .venv-test/bin/pytest -n 2 --dist loadgroup
OUT ?= modehop-out/demo
SEED ?= 0

.PHONY: demo test check unit bench-attribution docs clean

.venv-demo/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable .
	touch $@

.venv-test/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv-demo/.installed
	.venv-demo/bin/modehop demo --out $(OUT) --seed $(SEED)

test: check
	tests/debian.sh
	$(PYTEST)

check: .venv-test/.installed
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy

unit: .venv-test/.installed
	$(PYTEST) -m "not slow" --hypothesis-profile=quick

# Hours at full size; what is measured is kept in BENCH, and more seeds are added to it.
BENCH ?= modehop-out/bench-attribution
bench-attribution: .venv-test/.installed
	.venv-test/bin/python tests/bench/attribution.py --out $(BENCH) --write

docs:
	$(PYTHON) tests/readme_tree.py

clean:
	rm -rf .venv-demo .venv-test modehop-out
