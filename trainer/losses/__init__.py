"""The losses that a fit minimises."""
