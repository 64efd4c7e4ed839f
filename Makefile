# Everything on a machine with Python 3.11, 3.12 or 3.13 and make: `make demo`, `make test`.
# `make demo PYTHON=python3.12` takes that Python, and makes .venv anew if it is of another one;
# without PYTHON it is that of .venv, else the first of python3.11, python3.12, python3.13, python3.
ifndef PYTHON
PYTHON := $(shell for python in .venv/bin/python python3.11 python3.12 python3.13 python3; do \
	"$$python" -c '' 2>/dev/null && echo "$$python" && break; done)
endif
PYTHON_VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
UV_VERSION := 0.13.9
BIN := .venv/bin
INSTALLED := .venv/.installed-$(PYTHON_VERSION)
BENCH_INSTALLED := .venv/.installed-bench-$(PYTHON_VERSION)
N ?= 2000
RUNS ?= 5
TEST_PROCESSES ?= 2
SIZES ?= 2000,20000,200000
REFS ?= 1000000
WHO ?= ours, tensorflow float32

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test soak check setup clean constraints bench bench-scale

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON_VERSION)" || { echo "PYTHON=$(PYTHON) does not run" >&2; exit 1; }
	test -x $(BIN)/python$(PYTHON_VERSION) || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraints constraints.txt --build-constraints constraints.txt --editable '.[test]'
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python -m examples.photos demo/photos
	$(BIN)/python -m pipeline.run --runner DirectRunner --engine auto --overwrite \
		--input demo/photos --output demo/features
	$(BIN)/python -m pipeline.run --runner DirectRunner --engine auto --overwrite \
		--input demo/photos --output demo/logits --task classification --top_k 3
	$(BIN)/python -m examples.show demo/features demo/logits

# A file's tests stay in one process, in the order of tests/helpers/processes.py: the long ones begin.
# In three rounds, as a process that has loaded a hundred models does not give all of its memory back.
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
FIRST := tests/faults tests/docs tests/benchmarks tests/end_to_end/test_model_forms.py
SECOND := tests/consumers tests/examples tests/end_to_end/test_train.py

test: $(INSTALLED)
	$(PYTEST) $(FIRST)
	$(PYTEST) $(SECOND)
	$(PYTEST) $(patsubst %,--ignore=%,$(FIRST) $(SECOND))

# The same tests with more of all: 25 kills, 100,000 images, every architecture, faults at each system
# call and request. Then what the promises rest on is taken out, one at a time: a test has to notice.
soak: $(INSTALLED)
	IMAGE_FEATURES_SOAK=1 PYTEST_ADDOPTS="$(PYTEST_ADDOPTS) -o faulthandler_timeout=14400" $(MAKE) test
	$(BIN)/python -m tests.faults.mutations

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# Side by side with the peers; `make bench N=200 RUNS=2` is quick.
bench: $(BENCH_INSTALLED)
	$(BIN)/python -m benchmarks.compare --cache .cache/benchmarks --n $(N) --runs $(RUNS)

# 2,000, 20,000 and 200,000 images; `make bench-scale SIZES=100,1000 REFS=10000` is quick.
bench-scale: $(BENCH_INSTALLED)
	$(BIN)/python -m benchmarks.scale --cache .cache/benchmarks --sizes $(SIZES) --refs $(REFS) \
		--contender '$(WHO)'

$(BENCH_INSTALLED): $(INSTALLED) benchmarks/overrides.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraints constraints.txt --build-constraints constraints.txt \
		--overrides benchmarks/overrides.txt --editable '.[test,bench]'
	touch $(BENCH_INSTALLED)

# Resolves anew, for each Python that pyproject.toml allows; the result is committed. The same
# versions for all of them where there are such. No registry addresses in it.
constraints: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
		--python $(BIN)/python --no-header --no-annotate --upgrade \
		--extra test --extra bench --overrides benchmarks/overrides.txt --no-emit-index-url \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .cache build dist *.egg-info demo
