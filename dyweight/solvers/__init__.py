"""Learned solvers: one file a family. A family name read from a file selects from FAMILIES and imports nothing."""

from .base import Panel as Panel
from .base import Row as Row
from .base import Solver as Solver
from .dyweight import DyWeight as DyWeight
from .free_table import FreeTable as FreeTable
from .indis import Indis as Indis
from .instance_dyweight import InstanceDyWeight as InstanceDyWeight
from .learned_schedule import LearnedSchedule as LearnedSchedule

_CLASSES: tuple[type[Solver], ...] = (DyWeight, Indis, InstanceDyWeight, LearnedSchedule, FreeTable)
FAMILIES = {family.family: family for family in _CLASSES}
