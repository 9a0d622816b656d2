"""A fit from its options to a judged solver and its file; how the numbers move is in `fit/`."""
