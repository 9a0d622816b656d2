"""Our own measurements: the cost of a fit and of a sampling run, and the worth of the rules."""
