"""A creative's picture for people, got by the settings that the worker fetches by."""

from __future__ import annotations

import io
import json

from PIL import Image

from tests.worker.intake.buckets import buckets
from worker.commands.pictures import Pictures
from worker.intake.events import parse_record
from worker.settings import load
from worker.types import Creative, Origin, Record


def creative(image: str) -> Creative:
    event = json.dumps({"ad": {"id": "cr-1", "display": {"banner": {"img": image}}}}).encode()
    made = parse_record(Record(Origin("creatives", 0, 0, 1), None, event))
    assert isinstance(made, Creative)
    return made


def test_an_image_of_an_object_store_comes_from_the_endpoint_that_the_settings_name() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(file, "PNG")
    with buckets(signed=False) as store:
        store.objects["ads/a/b.png"] = file.getvalue()
        given = {
            "ADSCORE_FETCH__ALLOWED_HOSTS": "s3://ads",
            "ADSCORE_FETCH__S3_ENDPOINT": store.endpoint,
            "ADSCORE_FETCH__S3_CREDENTIALS": "anonymous",
            "ADSCORE_FETCH__TIMEOUT_SECONDS": "3",
        }
        image = Pictures(load(None, given).settings).of(creative("s3://ads/a/b.png"))
    assert image is not None
    assert image.size == (30, 20)
