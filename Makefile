# `make demo` and `make test` need only Python 3.10 or newer and git; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/installed
	$(BIN)/python -m trainer.distill --ckpt digits --steps 5 --out demo/digits-5.safetensors --report demo/distillation
	$(BIN)/python -m trainer.evaluate --ckpt digits --solver demo/digits-5.safetensors --out demo/evaluation

test: check
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .venv demo
