# Everything on a machine with Python 3.11 (or 3.10 to 3.13) and make: `make demo`, `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
BIN := .venv/bin
INSTALLED := .venv/.installed

export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test check setup clean constraints

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
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

test: $(INSTALLED)
	$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Resolves anew; the result is committed. No registry addresses in it.
constraints: $(INSTALLED)
	$(BIN)/uv pip compile --quiet --python $(BIN)/python --no-header --no-annotate --upgrade \
		--extra test --no-emit-index-url --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .cache build dist *.egg-info demo
