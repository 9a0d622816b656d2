"""What all benchmarks share: models with unseen samples, a command line, figures that are kept, and pages with them."""
