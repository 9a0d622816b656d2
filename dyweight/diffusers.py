"""A coefficient file as a scheduler of diffusers, the library; nothing else of the package imports it.

pipe.scheduler = DyWeightScheduler.from_file("flux1-dev.safetensors", pipe.scheduler.config)
picture = pipe("a fox in the snow", num_inference_steps=5).images[0]
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from diffusers import ConfigMixin, EulerDiscreteScheduler, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerOutput
from diffusers.utils import logging
from torch import Tensor

from .between import between
from .placement import place
from .sampling import State, update
from .solver_file import SolverFile
from .solver_set import SolverSet, in_words
from .solvers import Solver

logger = logging.get_logger(__name__)

T = TypeVar("T", bound="DyWeightScheduler")
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "flow_prediction": "flow"}
"""What a network predicts: diffusers' word, and that of the coefficient file."""


def prediction_of(config: Mapping[str, Any]) -> str | None:
    """What a model predicts, one of PREDICTIONS, by the config of its scheduler; None where that does not say it."""
    flow = "shift" in config and "beta_start" not in config  # as diffusers' schedulers for flows only
    return "flow_prediction" if flow else config.get("prediction_type")


class DyWeightScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Runs the table of a solver, a row for each network call of a pipeline.

    The file's own noise levels are used, whatever schedule a pipeline suggests: of that only the length counts.
    `timesteps` are the levels that the network is asked at, `sigmas` those of the states. Rows are counted and never
    looked up by their timestep, which a pipeline rounds to its number format.
    """

    order = 1
    # Whose config may be handed over, here and back.
    _compatibles = [*(one.name for one in KarrasDiffusionSchedulers), "FlowMatchEulerDiscreteScheduler"]  # noqa: RUF012

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        solver: dict[str, Any],
        prediction_type: str | None = None,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        trained_betas: list[float] | None = None,
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        """solver: a coefficient file as `SolverFile.to_json` gives it. prediction_type: of the model, one of
        PREDICTIONS, where it is known. The betas are those of the model where it is not a flow; by default SD's.

        Raises SolverFileError, and ValueError for a file that can't run in diffusers or is for another prediction.
        """
        file = SolverFile.from_json(solver, "the solver in the config")
        self._solvers = file.solvers
        made_for, asked = file.member().provenance.get("prediction_type"), PREDICTIONS.get(str(prediction_type))
        self._prediction = str(made_for or asked)
        _check(self._solvers, self._prediction)
        if prediction_type is not None and asked != self._prediction:
            raise ValueError(
                f"take a file that was made for this model: this one is for predictions of the kind "
                f"{self._prediction}, and the model's are {prediction_type}"
            )
        if self._prediction != "flow":
            betas = (beta_start, beta_end, beta_schedule, trained_betas)
            model = EulerDiscreteScheduler(num_train_timesteps, *betas, rescale_betas_zero_snr=rescale_betas_zero_snr)
            self._model_sigmas: Tensor = model.sigmas[:-1].double().flip(0)
        self.set_timesteps()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> "DyWeightScheduler":
        """The scheduler of a coefficient file, of one solver or a set.

        config: that of the scheduler that it replaces, `pipe.scheduler.config`. It tells what the model predicts, which
        the file's is compared with, and the betas of a model that is neither a flow nor has those of SD 1.5 and SDXL.
        Raises SolverFileError for a file that can't be read, and ValueError as the constructor does.
        """
        return cls.from_solver(SolverFile.read(path), config)

    @classmethod
    def from_solver(cls: type[T], file: SolverFile, config: Mapping[str, Any] | None = None) -> T:
        """As `from_file`, of what a file holds."""
        known = {name: value for name, value in (config or {}).items() if name != "_use_default_values"}
        made: T = cls.from_config({**known, "prediction_type": prediction_of(known)}, solver=file.to_json())
        return made

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        timesteps: Sequence[float] | None = None,
    ) -> None:
        """Begin a run: the file's solver for this number of steps, or for as many as a suggested schedule has.

        mu, the shift of a suggested schedule, changes nothing. Without any number: the only solver, or the middle one.
        Raises ValueError for a number of steps that the file neither has nor can mix of its neighbours.
        """
        if sigmas is not None:
            num_inference_steps = len(sigmas) - int(float(sigmas[-1]) == 0)
        elif timesteps is not None:
            num_inference_steps = len(timesteps)
        self._solver = self._solver_for(num_inference_steps or 0)
        self._plan = self._solver.plan()
        self._warn_of_the_other_network()
        self.num_inference_steps = self._solver.steps
        self.sigmas = self._plan.sigmas.float()
        self.timesteps = self._times(self._plan.query_sigmas).float().to(device)
        self._residuals: dict[int, Tensor] = {}
        self._begin_index: int | None = None
        self._step_index: int | None = None
        self._has_scaled = False

    @property
    def step_index(self) -> int | None:
        """The row that comes next; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """The row that comes first; None where a pipeline did not say."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at a later row, as image to image does. Raises ValueError for a solver with several calls a step."""
        if begin_index and self._plan.rows != self._solver.steps:
            raise ValueError("set strength to 1, or take a file with one network call a step: this one has several")
        self._begin_index = begin_index

    @property
    def init_noise_sigma(self) -> float:
        """What pipelines multiply noise of unit variance with; the same as ComfyUI does."""
        first = float(self.sigmas[0])
        if self._prediction == "flow":
            return 1.0
        return math.hypot(1.0, first) if first > float(self._model_sigmas[-1]) * (1 - 1e-5) else first

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """sample [B, *shape] -> what the network of an eps or v model takes, [B, *shape]."""
        if self._prediction == "flow":
            if self.config.prediction_type is None:
                raise ValueError(
                    "take a file that was made for this model: this one is for flow models, whose pipelines do not "
                    "scale the input. If it is one, give from_file its pipe.scheduler.config"
                )
            return sample
        self._has_scaled = True
        return sample / math.hypot(1.0, self._query())

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The next state from what the network said: model_output [B, *shape], sample [B, *shape].

        timestep is not read. Raises ValueError in the pipeline of a flow model where the file is for another.
        """
        if self._prediction != "flow" and not self._has_scaled:
            raise ValueError(
                f"take a file that was made for this model: this one is for predictions of the kind "
                f"{self._prediction}, and this pipeline does not scale the input, as those of flow models"
            )
        query, x = self._query(), sample.to(torch.promote_types(sample.dtype, torch.float32))
        residual = query * model_output.to(x.dtype)
        if self._prediction == "v":
            residual = (x * query**2 + residual * math.hypot(1.0, query)) / (1 + query**2)
        row = self._plan.rows - self._rows_left()
        state = update(State(row, x, {**self._residuals, row: residual}, sample.dtype), self._plan)
        self._residuals, self._step_index = state.residuals, (self._step_index or 0) + 1
        following = state.x.to(sample.dtype)
        return SchedulerOutput(prev_sample=following) if return_dict else (following,)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """sample [B, *shape] with noise [B, *shape] at the level of the state that comes next; timestep is not read."""
        sigma = float(self.sigmas[self._begin_index or 0 if self._step_index is None else self._step_index])
        return sample * (1 - sigma) + noise * sigma if self._prediction == "flow" else sample + noise * sigma

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """`scale_noise`, with the arguments as the pipelines of eps and v models give them."""
        return self.scale_noise(original_samples, timesteps, noise)

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _solver_for(self, steps: int) -> Solver:
        if not steps or steps in self._solvers.steps:
            return self._solvers.member(steps)
        known, mixed = in_words(self._solvers.steps), between(self._solvers, steps)
        if mixed is None:
            raise ValueError(f"set num_inference_steps to {known}: this file has no solver for {steps} steps")
        logger.warning(f"the solver for {steps} steps is mixed of its neighbours; the file is for {known} steps")
        return mixed

    def _warn_of_the_other_network(self) -> None:
        """Pipelines of two networks, as Wan 2.2, choose by the asked level, the file by that of the state."""
        first, boundary = self._solver.handover, float(self._solver.schedule.get("boundary") or 0)
        asked = self._plan.query_sigmas
        if first and bool((asked[:first] < boundary).any() or (asked[first:] >= boundary).any()):
            logger.warning(f"a step asks across the boundary {boundary:g}: the pipeline takes the other network there")

    def _times(self, queries: Tensor) -> Tensor:
        """[rows] noise levels -> [rows], what the network calls them."""
        if self._prediction == "flow":
            return queries * len(self)
        # Whole numbers, as ComfyUI asks these models.
        return (queries.log()[:, None] - self._model_sigmas.log()).abs().argmin(1)

    def _query(self) -> float:
        """The noise level at which the network is asked for the row that comes next."""
        if self._step_index is None:
            self._step_index = self._begin_index or 0
            if self._step_index:
                rest, start = self._solver.sigmas[self._step_index :], float(self._plan.sigmas[self._step_index])
                self._plan = place(SolverSet([self._solver]), rest, start).plan
        return float(self._plan.query_sigmas[-self._rows_left()])

    def _rows_left(self) -> int:
        return len(self.timesteps) - (self._step_index or 0)


def _check(solvers: SolverSet, prediction: str) -> None:
    """ValueError for what can't run in diffusers."""
    if prediction not in PREDICTIONS.values():
        raise ValueError(
            f"take a file for a model that predicts {in_words(PREDICTIONS.values())}: this one says {prediction}. If "
            "it says nothing, give from_file the pipe.scheduler.config, which does"
        )
    for solver in map(solvers.member, solvers.steps):
        if solver.reads_samples:
            raise ValueError(
                f"take a file of another family: {solver.family} makes a table for each sample, from its noise and "
                "prompt, and no prompt reaches a scheduler of diffusers"
            )
        if solver.guided:
            raise ValueError(
                "take a file without learned guidance: the pipelines of diffusers combine both predictions themselves"
            )
        if solver.analytic_first_step:
            raise ValueError(
                "take a file without an analytic first step: the pipelines of diffusers ask the network in each step"
            )
