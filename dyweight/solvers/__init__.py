"""Learned solvers: one file a family. A family name read from a file selects from FAMILIES and imports nothing."""

from .dyweight import DyWeight as DyWeight

FAMILIES = {DyWeight.family: DyWeight}
