"""Comparison of samplers by their endpoints and by their pictures."""
