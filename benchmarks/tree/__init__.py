"""The synthetic experiment of INDIS: a tree in the plane, few Euler steps, one schedule for all or one for each sample.

`python -m benchmarks tree` runs it. The tree is also a checkpoint for the trainer: `--ckpt benchmarks.tree:checkpoint`.
"""

from .data import Tree as Tree
from .data import checkpoint as checkpoint
