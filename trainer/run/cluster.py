"""The processes of one run, on one machine or several: they sum small numbers, and none waits for a dead one."""

import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import TrainerError

BEAT = 1.0
"""Seconds between two heartbeats."""
SILENT = 15.0
"""Seconds without a heartbeat after which a process counts as dead."""
SILENT_AT_THE_END = 4.0
"""The same after a SIGTERM, with which torchrun stops the other processes on a machine where one has died."""
JOIN = 300.0
"""Seconds within which all processes must have joined."""
PIECE = 1 << 22
"""Bytes of a message sent to the store at a time; its limit is 8 MiB."""

Value = TypeVar("Value")


class StoppedError(TrainerError):
    """Another process of the run failed or died; the message names it."""


class Cluster:
    """One of the processes that torchrun started; a single process only gets its own values.

    All processes make the same calls in the same order. The messages are small and go through torchrun's store, which
    needs only one port. Sums are in rank order, so that all processes get the same bits.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self.name = f"{socket.gethostname()}:{rank}"
        self._names = [f"rank {r}" for r in range(size)]
        self._round = 0
        self._posted: list[str] = []
        self._watch: _Watch | None = None

    @classmethod
    def from_environment(cls) -> "Cluster":
        """From torchrun's RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and LOCAL_RANK; alone without them."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        try:
            from torch.distributed.rendezvous import rendezvous

            store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=JOIN)))
        except (ImportError, RuntimeError, ValueError) as error:
            raise TrainerError(
                f"no connection to MASTER_ADDR {os.environ.get('MASTER_ADDR')}, MASTER_PORT "
                f"{os.environ.get('MASTER_PORT')} as rank {os.environ.get('RANK')} of {size} ({error}); "
                "start with torchrun, see docs/fitting.md"
            ) from error
        return cls(rank, size, store)

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def mine(self, index: int) -> bool:
        """Whether the work with this index belongs to this process."""
        return index % self.size == self.rank

    def sum(self, values: Tensor) -> Tensor:
        """The sum [*shape] of values [*shape] over the processes, in float64."""
        total: Tensor = sum(self.gather(values.detach().to("cpu", torch.float64)))  # type: ignore[assignment]
        return total

    def sum_in_order(self, values: Mapping[int, Tensor]) -> Tensor:
        """The sum [*shape] of float64 values [*shape] by index over the processes: the same bits however many share it.

        Raises StoppedError; there must be at least one value.
        """
        total: Tensor = sum(self.in_order(values))  # type: ignore[assignment]
        return total

    def in_order(self, values: Mapping[int, Value]) -> list[Value]:
        """The values of all processes by index, however many share them. Raises StoppedError."""
        everyones = {index: value for others in self.gather(dict(values)) for index, value in others.items()}
        return [everyones[index] for index in sorted(everyones)]

    def total(self, number: float) -> float:
        """Sum over the processes."""
        return float(self.sum(torch.tensor(number, dtype=torch.float64)))

    def from_first(self, make: Callable[[], Value]) -> Value:
        """The value of the first process, in all of them."""
        value: Value = self.gather(make() if self.first else None)[0]
        return value

    def gather(self, value: Any, to: int | None = None) -> list[Any]:
        """The values of all processes by rank: tensors, numbers, texts, or lists and dicts of them.

        to: the only process that gets them; in the others the list is empty.
        """
        if self.size == 1:
            return [value]
        self._round += 1
        try:
            if to != self.rank:
                self._post(f"{self._round}/{self.rank}", value)
            if to not in (None, self.rank):
                return []
            found = [value if r == self.rank else self._read(f"{self._round}/{r}") for r in range(self.size)]
            if to is None:
                self._forget(f"{self._round}/")
        except RuntimeError as error:
            raise StoppedError(self._store_lost()) from error
        return found

    def sharing(self, device: torch.device) -> str:
        """A warning where processes sample on one accelerator, else empty. device: where this one samples."""
        places = self.gather("" if device.type == "cpu" else f"{device} of {socket.gethostname()}")
        shared = {place: places.count(place) for place in places if place and places.count(place) > 1}
        return "\n".join(
            f"warning: {count} processes share {place}: each holds the model, and they wait for each other; start one "
            "process for each GPU"
            for place, count in shared.items()
        )

    def agree(self, values: dict[str, str]) -> None:
        """Raise StoppedError if a process was started with other values than the first."""
        everyones = self.gather(values)
        for name, others in zip(self._names, everyones, strict=True):
            for field, value in everyones[0].items():
                if others[field] != value:
                    raise StoppedError(
                        f"{name} has {field} = {others[field]}, {self._names[0]} has {value}: "
                        "start all processes with the same command"
                    )

    def check(self) -> None:
        """Raise StoppedError if another process is known to have failed or died."""
        if self._watch is not None and self._watch.news:
            raise StoppedError(self._watch.news)

    def __enter__(self) -> "Cluster":
        if self.size > 1:
            self._watch = _Watch(self._store, self.rank, self._names)
            try:
                self._names[:] = self.gather(self.name)
            except BaseException:
                self._watch.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watch is None:
            return
        try:
            if error is None:
                self.gather("done", to=0)  # the first process may keep the store: it leaves last
            else:
                self._watch.tell(str(error) if isinstance(error, StoppedError) else self._reason(error))
        finally:
            self._watch.close()
        if isinstance(error, (TrainerError, OSError)) and not isinstance(error, StoppedError):
            raise StoppedError(self._reason(error)) from error

    def _reason(self, error: BaseException) -> str:
        return f"{self.name}: {error if isinstance(error, TrainerError) else f'{type(error).__name__} {error}'.strip()}"

    def _post(self, key: str, value: Any) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        content = buffer.getvalue()
        pieces = [content[i : i + PIECE] for i in range(0, len(content), PIECE)]
        keys = [f"{key}/{i}" for i in range(len(pieces))]
        for name, piece in zip(keys, pieces, strict=True):
            self._store.set(name, piece)
        self._store.set(key, str(len(pieces)))
        self._posted += [*keys, key]

    def _read(self, key: str) -> Any:
        pause = 2e-4
        while not self._store.check([key]):
            self.check()
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        pieces = [self._store.get(f"{key}/{i}") for i in range(int(self._store.get(key)))]
        return torch.load(io.BytesIO(b"".join(pieces)), weights_only=True)

    def _forget(self, round_: str) -> None:
        """Delete the messages from before a round that all processes have begun, and so have read."""
        for key in self._posted:
            if not key.startswith(round_):
                self._store.delete_key(key)
        self._posted = [key for key in self._posted if key.startswith(round_)]

    def _store_lost(self) -> str:
        time.sleep(2 * BEAT)
        return (self._watch and self._watch.news) or _store_is_gone(self._names)


ALONE = Cluster()


class _Watch:
    """A thread that sends heartbeats, watches those of the others, and keeps the first bad news."""

    def __init__(self, store: Any, rank: int, names: list[str]) -> None:
        self.news = ""
        self._store, self._rank, self._names = store, rank, names
        self._others = [r for r in range(len(names)) if r != rank]
        self._seen = {r: (b"", time.monotonic() + JOIN - SILENT) for r in self._others}
        self._stopped_at: float | None = None
        self._over = threading.Event()
        self._before = signal.signal(signal.SIGTERM, self._on_sigterm)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell(self, reason: str) -> None:
        """Tell the others why this process is leaving, and give them time to read it."""
        try:
            if not self._store.check(["failed"]):
                self._store.set("failed", reason)
            time.sleep(2 * BEAT)
        except RuntimeError:
            return

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGTERM, self._before)

    def _on_sigterm(self, number: int, frame: object) -> None:
        self._stopped_at = time.monotonic()

    def _run(self) -> None:
        beats = 0
        try:
            while not self._over.wait(BEAT if beats else 0):
                beats += 1
                self._store.set(f"beat/{self._rank}", str(beats))
                self.news = self.news or self._look()
            self._store.set(f"beat/{self._rank}", "left")
        except RuntimeError:
            self.news = self.news or _store_is_gone(self._names)

    def _look(self) -> str:
        """Bad news, or an empty text."""
        if self._store.check(["failed"]):
            return str(self._store.get("failed").decode())
        now, patience = time.monotonic(), SILENT if self._stopped_at is None else SILENT_AT_THE_END
        for r in self._others:
            beat = self._store.get(f"beat/{r}") if self._store.check([f"beat/{r}"]) else b""
            if beat != self._seen[r][0]:
                self._seen[r] = (beat, now)
        silent = [r for r, (beat, when) in self._seen.items() if beat != b"left" and now - when > patience]
        if silent:
            names = ", ".join(self._names[r] for r in silent)
            came = all(self._seen[r][0] for r in silent)
            return f"{names} {'died' if came else 'did not join'}; fix that and start all processes again with --resume"
        if self._stopped_at is not None and now - self._stopped_at > SILENT_AT_THE_END + 2 * BEAT:
            return f"{self._names[self._rank]} was stopped by SIGTERM; continue with --resume"
        return ""


def _store_is_gone(names: list[str]) -> str:
    what = f"{names[0]} or its torchrun, which keeps the messages, died"
    return f"{what}; fix that and start all processes again with --resume"
