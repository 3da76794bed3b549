"""A date as an option of a verb."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


class Moment(click.ParamType):
    """A date, or a date and a time, as milliseconds; without an offset it is UTC."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with the mend."""
        try:
            moment = datetime.fromisoformat(value.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return max(0, round(moment.timestamp() * 1000))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no date: write 2026-11-01 or 2026-11-01T08:30:00+01:00", param, ctx)


MOMENT = Moment()
