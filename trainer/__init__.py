"""Headless distillation: makes the coefficient files that `dyweight.load_solver` reads. Knows no nodes."""

from .library import Fitted, fit_solver
from .progress import FitProgress

__all__ = ["FitProgress", "Fitted", "fit_solver"]
