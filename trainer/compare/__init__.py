"""Samplers beside each other: by their endpoints and by their pictures."""
