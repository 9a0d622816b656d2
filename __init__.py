"""The entry point for ComfyUI, which loads this folder by its path. Without ComfyUI, importing it does nothing."""

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The extension with all nodes; ComfyUI calls it once, when it starts."""
    from .nodes import extension

    return extension()
