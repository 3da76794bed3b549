"""A topic that is deleted while the worker runs: the clients would wait for it for ever, as they do for a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kafka.errors import KafkaError

from worker.commands import kafka
from worker.errors import FatalError

INTERVAL_SECONDS = 3.0
ANSWERS = 2
"""Answers in a row without the topic: a broker that has just started may not know all of them."""


class Lists(Protocol):
    """An admin client."""

    def list_topics(self) -> Sequence[str]: ...

    def close(self) -> Any: ...


class TopicWatch:
    """Asks for the topics every few seconds, on a thread of its own. Brokers that don't answer count for nothing.

    Args:
        client: used and closed here.
        on_missing: called once with FatalError(3) that names the topic and the verb that makes it.
    """

    def __init__(
        self,
        client: Lists,
        topics: Sequence[str],
        on_missing: Callable[[FatalError], None],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._client, self._topics, self._on_missing = client, topics, on_missing
        self._interval = interval_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking; a question under way is not waited for."""
        self._over.set()

    def _run(self) -> None:
        unseen = dict.fromkeys(self._topics, 0)
        while not self._over.wait(self._interval):
            try:
                there = set(self._client.list_topics())
            except (KafkaError, OSError):
                continue
            unseen = {topic: 0 if topic in there else unseen[topic] + 1 for topic in unseen}
            gone = [topic for topic, answers in unseen.items() if answers >= ANSWERS]
            if gone:
                self._on_missing(kafka.no_topic(", ".join(gone)))
                break
        self._client.close()
