"""JSON Schemas (2020-12) and AsyncAPI 3 of the events, as files beside this one."""

from __future__ import annotations

SUBMITTED_SCHEMA_ID = "urn:adscore:schema:creative.submitted.v1"
"""Absolute `$id` of the input event's schema."""

ENRICHED_SCHEMA_ID = "urn:adscore:schema:creative.enriched.v1"
"""Absolute `$id` of the enriched event's schema; `ce_dataschema` of every published event."""

FILES = {
    SUBMITTED_SCHEMA_ID: "creative.submitted.v1.json",
    ENRICHED_SCHEMA_ID: "creative.enriched.v1.json",
}
ASYNCAPI = "asyncapi.yaml"
