"""`adscore config show`."""

from __future__ import annotations

import click

from worker.commands import edge


@click.group()
def config() -> None:
    """Every setting, its value and where it came from."""


@config.command()
def show() -> None:
    """Print one line per setting: NAME = VALUE, then where it came from. Secrets are masked."""
    rows = [(name, value or '""', origin) for name, value, origin in edge.loaded().rows()]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = min(48, max(len(value) for _, value, _ in rows))
    for name, value, origin in rows:
        click.echo(f"{name:<{name_width}} = {value:<{value_width}}  # {origin}")
