# `make demo` and `make test` need only Python 3.10 or newer and git; everything else goes into .venv.
# The nodes are tested in each ComfyUI of COMFYUI_PATH, or else in those under ~/comfy (comfy-cli's place).
PYTHON ?= python3
BIN := .venv/bin
COMFYUI_REQUIREMENTS := $(firstword $(wildcard $(addsuffix /requirements.txt,\
	$(subst :, ,$(or $(COMFYUI_PATH),$(HOME)/comfy/ComfyUI)))))

PICTURES := lpips pytorch-fid torchvision==0.28.0 open_clip_torch ftfy huggingface_hub regex timm

.PHONY: demo test check comfyui clean

demo: .venv/installed
	$(BIN)/python -m trainer.distill --ckpt digits --steps 5 --out demo/digits-5.safetensors --report demo/distillation
	$(BIN)/python -m trainer.evaluate --ckpt digits --solver demo/digits-5.safetensors --out demo/evaluation

test: check comfyui .venv/pictures
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	mkdir -p .venv/types/pack
	ln -sfn ../../../__init__.py ../../../comfyui ../../../nodes ../../../dyweight .venv/types/pack
	cd .venv/types && ../bin/mypy --config-file ../../pyproject.toml -p pack

# Without a ComfyUI the tests of the nodes skip and say so.
comfyui: $(if $(COMFYUI_REQUIREMENTS),.venv/comfyui)

.venv/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

# For losses and metrics on pictures. Beside the rest, since ComfyUI would import this torchvision, whose build is for CUDA.
.venv/pictures: .venv/installed Makefile
	$(BIN)/python -m pip install --quiet --no-deps --target $@ $(PICTURES)
	touch $@

# What ComfyUI requires, but for what the tests do not use and what would replace torch's CPU build. spandrel asks for
# torchvision, which ComfyUI itself needs for no model that is tested.
.venv/comfyui: .venv/installed $(COMFYUI_REQUIREMENTS)
	grep -vE '^(torch|torchvision|torchaudio|spandrel|comfyui-workflow-templates)\b' $(COMFYUI_REQUIREMENTS) > $@-requirements.txt
	$(BIN)/python -m pip install --quiet --constraint requirements-dev.txt --requirement $@-requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps spandrel
	touch $@

clean:
	rm -rf .venv demo
