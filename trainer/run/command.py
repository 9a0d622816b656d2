"""What the command lines share: errors as one line, and a bar that counts network calls."""

import io
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from dyweight import SolverFileError

from .cluster import ALONE, Cluster
from .errors import TrainerError
from .network import Network


def run(command: Callable[[], object]) -> int:
    """The exit status of a command: 0, 2 with a message for an error that the user can fix, 130 if interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a Windows code page lacks letters that a path may have
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except (TrainerError, SolverFileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def writable_folder(option: str, path: Path) -> Path:
    """The folder, created if it is missing. Raises TrainerError, which names the option, if it can't be written to."""
    probe = path / f".probe-{secrets.token_hex(4)}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainerError(f"{option}: {path} can't be written to ({error.strerror}); give another place") from error
    return path


class CallBar:
    """A progress bar of the network calls with the remaining time, on a terminal only; lines are always printed.

    Only the first process of a cluster shows anything. All check at each network call whether another has died.
    """

    def __init__(self, network: Network, total: int, cluster: Cluster = ALONE) -> None:
        hidden = None if cluster.first else True
        self._bar = tqdm(total=total, unit="call", unit_scale=True, disable=hidden, dynamic_ncols=True)
        self._network, self._cluster = network, cluster
        network.on_calls = self._count

    def _count(self, calls: int) -> None:
        self._cluster.check()
        self._bar.update(calls)

    def expect(self, calls: int) -> None:
        """Expect this many more calls."""
        self._bar.total = self._bar.n + calls

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._cluster.first:
            return
        with self._bar.external_write_mode(file=sys.stdout):
            print(text, flush=True)

    def __enter__(self) -> "CallBar":
        return self

    def __exit__(self, *raised: object) -> None:
        self._network.on_calls = None
        self._bar.close()
