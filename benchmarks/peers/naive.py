"""(1) The naive loop: one record after the other, every step in line, each output acknowledged before the next."""

from __future__ import annotations

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.peers.work import Work, arguments


def main(work: Work) -> None:
    """Until killed."""
    told = arguments()
    producer = KafkaProducer(bootstrap_servers=told.servers, acks="all")
    consumer = KafkaConsumer(
        told.input, bootstrap_servers=told.servers, group_id=told.group, auto_offset_reset="earliest"
    )
    for message in consumer:
        job = work.prepare(message.topic, message.partition, message.offset, message.key, message.value)
        ((key, value),) = work.score([job])
        producer.send(told.output, value, key=key).get(timeout=30)


if __name__ == "__main__":
    main(Work())
