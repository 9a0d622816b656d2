"""Learned solvers: one file a family. A family name read from a file selects from FAMILIES and imports nothing."""

from typing import TypeAlias

from .dyweight import DyWeight as DyWeight
from .free_table import FreeTable as FreeTable
from .indis import Indis as Indis
from .instance_dyweight import InstanceDyWeight as InstanceDyWeight
from .learned_schedule import LearnedSchedule as LearnedSchedule

Solver: TypeAlias = DyWeight | Indis | InstanceDyWeight | LearnedSchedule | FreeTable

FAMILIES: dict[str, type[Solver]] = {
    DyWeight.family: DyWeight,
    Indis.family: Indis,
    InstanceDyWeight.family: InstanceDyWeight,
    LearnedSchedule.family: LearnedSchedule,
    FreeTable.family: FreeTable,
}
