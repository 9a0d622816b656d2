"""The options of the command lines: one frozen dataclass each; the parser is made from the fields."""
