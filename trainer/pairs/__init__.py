"""Pairs of noise and the teacher's endpoint."""
