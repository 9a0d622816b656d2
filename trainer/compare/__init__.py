"""Comparing samplers by their endpoints and by their pictures."""
