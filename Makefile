# `make demo` and `make test` need only Python 3.10 or newer and git; everything else goes into .venv.
# The nodes are tested in each ComfyUI of COMFYUI_PATH, or else in those under ~/comfy (comfy-cli's place), or else in one
# that is cloned into .venv. `make test` runs all tests but the slow ones, `make test-all` all.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --no-loadscope-reorder

PICTURES := lpips pytorch-fid torchvision==0.28.0 open_clip_torch ftfy huggingface_hub regex timm

.PHONY: demo test test-all check comfyui clean

demo: .venv/installed
	$(BIN)/python -m trainer.distill --ckpt digits --steps 5 --out demo/digits-5.safetensors --report demo/distillation
	$(BIN)/python -m trainer.evaluate --ckpt digits --solver demo/digits-5.safetensors --out demo/evaluation

test: check comfyui .venv/pictures
	$(PYTEST) -m "not slow"

test-all: check comfyui .venv/pictures
	$(PYTEST)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	mkdir -p .venv/types/pack
	ln -sfn ../../../__init__.py ../../../comfyui ../../../nodes ../../../dyweight .venv/types/pack
	cd .venv/types && ../bin/mypy --cache-dir ../../.mypy_cache --config-file ../../pyproject.toml -p pack

# Without a ComfyUI the tests of the nodes skip and say so.
comfyui: .venv/installed
	$(BIN)/python -m tests.comfy.bring

.venv/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# For losses and metrics on pictures. Beside the rest, since ComfyUI would import this torchvision, whose build is for CUDA.
.venv/pictures: .venv/installed Makefile
	$(BIN)/python -m pip install --quiet --no-deps --target $@ $(PICTURES)
	touch $@

clean:
	rm -rf .venv demo
