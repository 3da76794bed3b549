"""A step of exactly-once for a topic that takes less than when the worker started, on a real broker."""

from __future__ import annotations

import random
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from tests.worker.commands.test_dlq import settings_of
from worker.commands import clients, kafka
from worker.delivery.outbox import Message, Outgoing
from worker.errors import FatalError
from worker.types import Origin


def test_a_limit_that_was_lowered_ends_the_worker_so_that_it_reads_it_anew(topics: Any) -> None:
    """Going back to the committed offsets would meet the same record again, for ever."""
    settings = settings_of(topics)
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"delivery": "exactly-once"})})
    with kafka.admin(settings.kafka) as admin:
        lowered = ConfigResource(ConfigResourceType.TOPIC, topics.output, configs={"max.message.bytes": "1000"})
        admin.alter_configs([lowered])
    member = clients.consumer(settings)
    outbox = clients.outbox(settings, member)
    try:
        value = random.Random(1).randbytes(5_000)  # compression is on
        outbox.put(Outgoing(Origin(topics.input, 0, 0, 0), Message(topics.output, b"k", value, ()), lambda _: None))
        with pytest.raises(FatalError, match=r"max\.message\.bytes") as caught:
            outbox.flush()
        assert caught.value.exit_code == 1
    finally:
        outbox.close(2)
        member.close(timeout_ms=1000)
