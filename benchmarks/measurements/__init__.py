"""Measurements of this project's own: what a fit and a sampling run take, and what rules are worth."""
