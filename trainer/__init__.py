"""Headless distillation: makes the coefficient files that `dyweight.load_solver` reads. Knows no nodes."""

from .library import FitProgress, Fitted, fit_solver

__all__ = ["FitProgress", "Fitted", "fit_solver"]
