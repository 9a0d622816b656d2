"""Headless distillation: makes the coefficient files that `dyweight.load_solver` reads. Knows no nodes."""

from .distillation.library import Fitted, fit_solver
from .distillation.progress import FitProgress

__all__ = ["FitProgress", "Fitted", "fit_solver"]
