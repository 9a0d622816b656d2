"""Models without a download."""
