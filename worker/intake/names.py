"""Name resolution that can be left waiting: the resolver knows no deadline, so it gets a thread of its own."""

from __future__ import annotations

import queue
import socket
import threading
from ipaddress import ip_address

from worker.intake.addresses import Address


def resolve(name: str, timeout_seconds: float) -> list[Address]:
    """All addresses of `name`, in the resolver's order.

    Raises TimeoutError, or OSError (socket.gaierror) where there are none. A lookup that is given up ends by the
    resolver's own time-out, on a daemon thread.
    """
    answer: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()
    threading.Thread(target=_look_up, args=(name, answer), name="adscore-resolve", daemon=True).start()
    try:
        result = answer.get(timeout=timeout_seconds)
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(result, OSError):
        raise result
    return result


def _look_up(name: str, answer: queue.SimpleQueue[list[Address] | OSError]) -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        answer.put(error)
    except UnicodeError:
        answer.put(OSError("the name can't be encoded"))
    else:
        answer.put(list(dict.fromkeys(ip_address(entry[4][0]) for entry in found)))
