"""What each model costs: a runner that counts its own time and creatives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from admodels.runtime.runner import Runner
from worker.metrics import Metrics


class MeteredRunner:
    """`inner`, with its seconds and rows added to the metrics under the bundle's name and version."""

    def __init__(self, inner: Runner, name: str, version: str, metrics: Metrics) -> None:
        self._inner, self._labels, self._metrics = inner, (name, version), metrics
        self.backend = inner.backend
        self.thread_safe: bool = getattr(inner, "thread_safe", False)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As the runner underneath; a failed run costs time and has scored nobody."""
        started = time.monotonic()
        try:
            outputs = self._inner.infer(feeds)
        finally:
            self._metrics.model_seconds.labels(*self._labels).inc(time.monotonic() - started)
        self._metrics.model_creatives.labels(*self._labels).inc(len(next(iter(feeds.values()))))
        return outputs
