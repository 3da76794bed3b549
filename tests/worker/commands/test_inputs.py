import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from worker.commands.inputs import Item, items
from worker.errors import Code


def picture(path: Path) -> Path:
    Image.new("RGB", (30, 20), "red").save(path)
    return path


def event(creative_id: str, image: object, **rest: Any) -> str:
    return json.dumps({"ad": {"id": creative_id, "display": {"banner": {"img": image}}}} | rest)


def given(*paths: Path | str, max_bytes: int = 100_000, **copy: str) -> list[Item]:
    return list(items([str(path) for path in paths], copy=copy, lang="de", max_bytes=max_bytes))


def embedded(item: Item) -> bytes:
    assert item.creative is not None
    return base64.b64decode(item.creative.image_url.partition(",")[2])


def test_an_image_has_its_name_as_id_and_its_time_as_lastmod(tmp_path: Path) -> None:
    path = picture(tmp_path / "Straße 1.png")
    os.utime(path, ns=(0, 1_763_750_000_123_000_000))
    (item,) = given(path, headline="Neu", cta="Los")
    assert item.creative is not None
    assert (item.label, item.creative_id) == (str(path), "Straße 1.png")
    assert item.creative.lastmod == 1_763_750_000_123
    assert (item.creative.copy.headline, item.creative.copy.cta, item.creative.lang) == ("Neu", "Los", "de")
    assert embedded(item) == path.read_bytes()


def test_a_folder_means_its_images_sorted_and_not_deeper(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.webp"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "deeper.png").mkdir()
    picture(tmp_path / "deeper.png" / "d.png")
    assert [item.creative_id for item in given(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (item,) = given(tmp_path)
    assert item.error is not None
    assert "holds no images" in item.error.message


def test_lines_of_jsonl_are_events_and_relative_paths_lie_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    picture(folder / "a.png")
    native = {
        "native": {"asset": [{"image": {"type": 1, "url": "i.png"}}, {"image": {"type": 3, "url": "images/a.png"}}]}
    }
    structured = {"specversion": "1.0", "type": "creative.submitted.v1", "source": "s", "id": "1"}
    lines = [
        event("one", "images/a.png", copy={"headline": "H"}),
        "",
        json.dumps({"ad": {"id": "two", "display": native}}),
        json.dumps(structured | {"data": json.loads(event("three", "images/a.png"))}),
        event("four", "https://cdn.example/c.jpg"),
        event("five", "data:image/png;base64,AAAA"),
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines))
    found = given(path, headline="not for events")
    assert [item.label for item in found] == [f"{path}:{line}" for line in (1, 3, 4, 5, 6)]
    assert [item.creative_id for item in found] == ["one", "two", "three", "four", "five"]
    data = (folder / "a.png").read_bytes()
    assert [embedded(item) for item in found[:3]] == [data] * 3
    assert found[0].creative is not None
    assert found[0].creative.copy.headline == "H"
    assert b'"i.png"' in found[1].event
    assert found[2].structured
    assert json.loads(found[2].event)["data"]["ad"]["display"]["banner"]["img"].startswith("data:image/png;base64,")
    assert found[3].event == lines[4].encode()


ENVELOPE = {"specversion": "1.0", "type": "creative.submitted.v1", "source": "s", "id": "1"}


def in_base64(text: str) -> dict[str, str]:
    return ENVELOPE | {"data_base64": base64.b64encode(text.encode()).decode()}


def test_the_image_of_data_base64_and_of_an_event_with_an_unknown_field_data_is_a_file_too(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    bare = [event("bare", "a.png", data=data) for data in ({"x": 1}, 5, None)]
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join([json.dumps(in_base64(event("wrapped", "a.png", ext={"x": 1}))), *bare]))
    found = given(path)
    assert [item.creative_id for item in found] == ["wrapped", "bare", "bare", "bare"]
    assert [embedded(item) for item in found] == [(tmp_path / "a.png").read_bytes()] * 4
    assert [item.structured for item in found] == [True, False, False, False]
    wrapped = json.loads(found[0].event)
    inside = json.loads(base64.b64decode(wrapped.pop("data_base64")))
    assert wrapped == ENVELOPE
    assert inside["ext"] == {"x": 1}
    for item, read in [(found[0], inside), *((item, json.loads(item.event)) for item in found[1:])]:
        assert item.creative is not None
        assert read["ad"]["display"]["banner"]["img"] == item.creative.image_url
    assert [json.loads(item.event)["data"] for item in found[1:]] == [{"x": 1}, 5, None]


def test_an_envelope_is_seen_wherever_its_fields_stand(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    data = json.loads(event("one", "data:image/png;base64," + "A" * 100_000))
    path.write_text(json.dumps({"data": data} | ENVELOPE))
    (item,) = given(path)
    assert item.creative is not None
    assert item.structured


@pytest.mark.parametrize(
    ("line", "code", "creative_id"),
    [
        ("{not json", Code.BAD_EVENT, None),
        ('{"ad": {"id": "x", "lastmod": "soon", "display": {"banner": {"img": "a.png"}}}}', Code.BAD_EVENT, "x"),
        (event("x", 5, data={"y": 1}), Code.BAD_EVENT, "x"),
        (json.dumps(ENVELOPE | {"type": "another", "data": json.loads(event("x", "a.png"))}), Code.BAD_EVENT, "x"),
        (json.dumps(in_base64(event("x", 5))), Code.BAD_EVENT, "x"),
        (json.dumps(in_base64("{")), Code.BAD_EVENT, None),
        (json.dumps(ENVELOPE | {"data_base64": 5}), Code.BAD_EVENT, None),
        ("[]", Code.BAD_EVENT, None),
        (event("x", "secret.png", ext="DEEP").replace('"DEEP"', "[" * 300 + "]" * 300), Code.BAD_EVENT, "x"),
        (event("x", "nowhere.png"), Code.MISSING_IMAGE, "x"),
        (event("x", "../secret.png"), Code.FETCH_REFUSED, "x"),
        (event("x", "a/../../secret.png"), Code.FETCH_REFUSED, "x"),
        (event("x", "a\x00.png"), Code.FETCH_FAILED, "x"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(tmp_path: Path, line: str, code: Code, creative_id: str | None) -> None:
    picture(tmp_path / "secret.png")
    folder = tmp_path / "sub"
    folder.mkdir()
    picture(folder / "secret.png")
    path = folder / "events.jsonl"
    path.write_text(line)
    (item,) = given(path)
    assert item.error is not None
    assert item.error.code == code
    assert item.creative_id == creative_id
    assert item.creative is None


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    for name in ("no.jpg", "no.jsonl", "no"):
        (item,) = given(tmp_path / name)
        assert item.error is not None
        assert item.error.code == Code.MISSING_IMAGE
        assert item.creative_id == name


def test_no_more_than_one_byte_over_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    path.write_bytes(bytes(5_000))
    (item,) = given(path, max_bytes=1_000)
    assert len(embedded(item)) == 1_001


def test_a_name_that_is_not_utf8_is_still_a_name(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/bad\xff.png"
    picture(tmp_path / "good.png").rename(os.fsdecode(name))
    (item,) = given(tmp_path)
    assert item.creative_id == "bad\ufffd.png"


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    stdin = io.TextIOWrapper(io.BytesIO(event("one", "a.png").encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    (item,) = given("-")
    assert item.label == "-:1"
    assert embedded(item) == (tmp_path / "a.png").read_bytes()
