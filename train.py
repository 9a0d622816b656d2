"""The trainer for a Python that does not look in its working folder, such as that of ComfyUI's portable package.

`python train.py distill ...` is `python -m trainer.distill ...`, from any folder; so are evaluate, convert and inspect.
"""

import runpy
import sys
from pathlib import Path

COMMANDS = ("distill", "evaluate", "convert", "inspect")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python {sys.argv[0]} {{{','.join(COMMANDS)}}} ...")
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    runpy.run_module(f"trainer.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)
