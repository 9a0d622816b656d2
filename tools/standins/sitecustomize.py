"""Empty modules for torchvision, torchaudio and av where they are not installed.

ComfyUI imports them when it starts, but neither tests nor benchmarks use them. Python runs this file when its folder is
on PYTHONPATH; installed packages take precedence.
"""

import importlib.machinery
import importlib.util
import sys
import types

_SUBMODULES = {
    "torchvision": ("transforms", "transforms.functional", "transforms.v2", "ops", "io", "models", "utils"),
    "torchaudio": ("functional", "transforms"),
    "av": ("container", "subtitles", "subtitles.stream", "video", "video.reformatter"),
}


class _Anything(types.ModuleType):
    """A module that has every attribute, each of which can be called."""

    def __getattr__(self, name: str) -> "_Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Anything(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value

    def __call__(self, *arguments: object, **options: object) -> "_Anything":
        return self


def _install(name: str) -> None:
    module = _Anything(name)
    module.__path__ = []  # type: ignore[attr-defined]
    module.__version__ = "0"  # type: ignore[attr-defined]  # transformers compares it
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module


for _package, _children in _SUBMODULES.items():
    if importlib.util.find_spec(_package) is None:
        for _name in (_package, *(f"{_package}.{child}" for child in _children)):
            _install(_name)
