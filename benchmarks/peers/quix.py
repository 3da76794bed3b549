"""(2) Quix Streams with ONNX Runtime: its own consumer, producer and checkpoints; a function applied to each record."""

from __future__ import annotations

from typing import Any

from quixstreams import Application

from benchmarks.peers.work import Work, arguments


def main() -> None:
    """Until killed."""
    told, work = arguments(), Work()
    app = Application(
        broker_address=told.servers,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
        producer_extra_config={"compression.type": "lz4"},
        consumer_extra_config={"fetch.message.max.bytes": 16 << 20},
    )
    source = app.topic(told.input, value_deserializer="bytes", key_deserializer="bytes")
    sink = app.topic(told.output, value_serializer="bytes", key_serializer="bytes")

    def score(value: bytes, key: bytes, _timestamp: int, _headers: Any) -> bytes:
        return work.score([work.prepare(told.input, 0, 0, key, value)])[0][1]

    app.dataframe(source).apply(score, metadata=True).to_topic(sink)
    app.run()


if __name__ == "__main__":
    main()
