"""Few-step diffusion samplers as tables, handcrafted and learned. Independent of ComfyUI and of the trainer."""

from . import baselines as baselines
from . import conditions as conditions
from . import schedules as schedules
from .plan import Plan as Plan
from .provenance import Provenance as Provenance
from .sampling import Call as Call
from .sampling import sample as sample
from .solver_file import SolverFile as SolverFile
from .solver_file import SolverFileError as SolverFileError
from .solver_file import load_solver as load_solver
from .solver_file import save_solver as save_solver
from .solver_set import SolverSet as SolverSet
from .solvers import DyWeight as DyWeight
from .solvers import FreeTable as FreeTable
from .solvers import Indis as Indis
from .solvers import InstanceDyWeight as InstanceDyWeight
from .solvers import LearnedSchedule as LearnedSchedule
from .solvers import Solver as Solver

__version__ = "0.1.0"
