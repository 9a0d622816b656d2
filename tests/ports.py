"""Ports for servers that tests start, when several run at once."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the system gives to nobody else meanwhile.

    It is bound, but nobody listens: a server that binds with SO_REUSEADDR gets it, as those of asyncio and torch do.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
