"""JSON Schemas and AsyncAPI of the events."""

ENRICHED_SCHEMA_ID = "urn:adscore:schema:creative.enriched.v1"
"""Absolute `$id` of the enriched event's schema; `ce_dataschema` of every published event."""
