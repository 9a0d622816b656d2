"""Headless distillation: makes the coefficient files that `dyweight.load_solver` reads. Knows no nodes."""
