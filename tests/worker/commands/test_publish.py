import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from PIL import Image


def records(topics: Any) -> list[Any]:
    """Everything on the input topic."""
    consumer = KafkaConsumer(bootstrap_servers=topics.env["ADSCORE_KAFKA__BOOTSTRAP_SERVERS"])
    try:
        parts = [TopicPartition(topics.input, part) for part in consumer.partitions_for_topic(topics.input) or ()]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        wanted, found = sum(consumer.end_offsets(parts).values()), []
        while len(found) < wanted:
            found += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
        return found
    finally:
        consumer.close()


def java_murmur2(data: bytes) -> int:
    """`org.apache.kafka.common.utils.Utils.murmur2`, written from the Java source, on unsigned 32 bits."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    for at in range(0, len(data) - len(data) % 4, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = data[len(data) - len(data) % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_murmur2_is_javas() -> None:
    # The values of Kafka's own UtilsTest.
    expected = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    for data, value in expected.items():
        assert java_murmur2(data) == value & 0xFFFFFFFF


def test_events_images_and_what_fails(adscore: Callable[..., Any], topics: Any, tmp_path: Path) -> None:
    image = tmp_path / "Straße.png"
    Image.new("RGB", (30, 20)).save(image)
    event = {"ad": {"id": "cr-1", "display": {"banner": {"img": "Straße.png"}}}, "ext": {"kept": "as it is"}}
    structured = {"specversion": "1.0", "type": "creative.submitted.v1", "source": "s", "id": "1", "data": event}
    judged_by_the_worker = '{"ad": {"id": "bad", "lastmod": "soon", "display": {"banner": {"img": "x"}}}}'
    missing = {"ad": {"id": "gone", "display": {"banner": {"img": "gone.png"}}}}
    lines = [json.dumps(event), json.dumps(structured), judged_by_the_worker, json.dumps(missing), "{no json"]
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("\n".join(lines))
    ran = adscore("publish", str(image), str(jsonl), env=topics.env)
    assert ran.status == 1
    assert ran.out == ""
    assert f"published 4 to {topics.input}, 2 failed" in ran.err
    assert f"{jsonl}:4: there is no such file" in ran.err
    found = records(topics)
    assert sorted(record.key.decode() for record in found) == ["Straße.png", "bad", "cr-1", "cr-1"]
    for record in found:
        assert record.partition == (java_murmur2(record.key) & 0x7FFFFFFF) % 3
    by_key = {record.key.decode(): record for record in found}
    headers = dict(by_key["Straße.png"].headers)
    assert headers["ce_type"] == b"creative.submitted.v1"
    assert headers["ce_subject"] == "Straße.png".encode()
    assert json.loads(by_key["Straße.png"].value)["ad"]["display"]["banner"]["img"].startswith("data:image/png;base64,")
    assert by_key["bad"].value == judged_by_the_worker.encode()
    first, second = sorted((record for record in found if record.key == b"cr-1"), key=lambda record: record.offset)
    assert json.loads(first.value)["ext"] == {"kept": "as it is"}
    assert second.headers == []
    assert json.loads(second.value)["specversion"] == "1.0"


def test_more_than_the_topic_takes_is_told_and_the_rest_goes_on(
    adscore: Callable[..., Any], topics: Any, tmp_path: Path
) -> None:
    display = {"banner": {"img": "https://cdn.example/x.png"}}
    huge = {"ad": {"id": "huge", "display": display}, "ext": {"x": "a" * 13_000_000}}
    small = {"ad": {"id": "small", "display": display}}
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("\n".join(map(json.dumps, (huge, small))))
    ran = adscore("publish", str(jsonl), env=topics.env)
    assert ran.status == 1
    assert f"{jsonl}:1: larger than the " in ran.err
    assert [record.key for record in records(topics)] == [b"small"]


def test_without_the_topic_the_verb_that_mends_it_is_named(adscore: Callable[..., Any], topics: Any) -> None:
    ran = adscore("publish", "x.png", env=topics.env | {"ADSCORE_KAFKA__INPUT_TOPIC": "not.there"})
    assert ran.status == 3
    assert "adscore topics create" in ran.err
