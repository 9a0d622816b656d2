"""What the fitted solver is compared with."""

from typing import Any

import pytest

import dyweight
from trainer.checkpoints.builtin import gmm
from trainer.compare.endpoint_error import endpoint_error
from trainer.compare.handcrafted import handcrafted
from trainer.losses.features import Latent
from trainer.pairs.pairs import deviation
from trainer.pairs.targets import Targets
from trainer.pairs.teacher import Teacher
from trainer.run.network import Network


def test_the_file_names_a_handcrafted_solver_and_its_error_on_unseen_pairs(commands: Any) -> None:
    arguments = ("--steps", 3, "--pairs", 6, "--teacher", "ipndm:10", "--validation-pairs", 7, "--seed", 3)
    provenance = dyweight.SolverFile.read(commands.distill("gmm:4", *arguments).out).provenance
    network = Network(gmm.checkpoint(4))
    targets = Targets(network, Teacher.parse("ipndm:10"), 3, 1, None)
    fresh = [targets.block("test", i) for i in range(7)]
    rival = handcrafted(network.checkpoint, 3)[str(provenance["handcrafted"])]
    expected = endpoint_error(network, fresh, rival, Latent(deviation(fresh)))
    assert provenance["endpoint_error_handcrafted"] == pytest.approx(expected, rel=1e-4)
