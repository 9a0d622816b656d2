"""What all benchmarks share: models with unseen samples, a command line, recorded figures, and the pages with them."""
