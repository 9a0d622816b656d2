"""Learned solvers: one file a family. A family name read from a file selects from FAMILIES and imports nothing."""

from typing import TypeAlias

from .dyweight import DyWeight as DyWeight
from .indis import Indis as Indis
from .instance_dyweight import InstanceDyWeight as InstanceDyWeight

Solver: TypeAlias = DyWeight | Indis | InstanceDyWeight

FAMILIES: dict[str, type[DyWeight] | type[Indis] | type[InstanceDyWeight]] = {
    DyWeight.family: DyWeight,
    Indis.family: Indis,
    InstanceDyWeight.family: InstanceDyWeight,
}
