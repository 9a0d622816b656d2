"""Headless distillation: makes the coefficient files that `dyweight.load_solver` reads. Knows no ComfyUI nodes."""

from .fitting import FitProgress as FitProgress
from .fitting import Fitted as Fitted
from .fitting import fit_solver as fit_solver
