"""`trainer.distill` to whom no process is dead because it is slow: the machine that runs the tests may be busy."""

import sys

from trainer import distill
from trainer.run import cluster

cluster.SILENT = cluster.JOIN
sys.exit(distill.main())
