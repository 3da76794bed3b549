"""`adscore`: the Kafka worker and everything an operator or a designer does with scores."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import Any

import click

from worker.commands import edge

# verb → (module under worker.commands, its command, what it does). Modules are imported only when their verb runs.
VERBS = {
    "worker": ("worker", "worker", "Consume, score, cache and publish, until stopped."),
    "score": ("score", "score", "Score images, folders or JSONL, without Kafka and Redis."),
    "publish": ("publish", "publish", "Put creatives on the input topic."),
    "tail": ("tail", "tail", "Show enriched events from the output topic."),
    "topics": ("topics", "topics", "Create the topics, or check them against their policies."),
    "dlq": ("dlq", "dlq", "Look at dead letters and put them back."),
    "rescore": ("rescore", "rescore", "Score again what an older model version scored."),
    "shadow": ("shadow", "shadow", "Compare the candidate models' scores with the live ones."),
    "models": ("models", "models", "List the bundles, or check every file of them."),
    "cache": ("cache", "cache", "What Redis holds of ours, and how to drop it."),
    "schema": ("schema", "schema", "Export the events' schemas, or check events against them."),
    "buckets": ("buckets", "buckets", "Cut points of every targeting bucket."),
    "bench": ("bench", "bench", "How fast the worker is here, and how late its events are."),
    "doctor": ("doctor", "doctor", "What works here, what doesn't, and how to mend it."),
    "config": ("config", "config", "Every setting, its value and where it came from."),
}


class Verbs(click.Group):
    """A group that imports a verb when it runs, so that `--help` is there at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, attribute, _ = VERBS[name]
        return edge.with_edge(getattr(importlib.import_module(f"worker.commands.{module}"), attribute))

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, _, text) in VERBS.items()])


def cli() -> Verbs:
    """The program's root command."""
    root = Verbs(
        name="adscore",
        help="Scores ad creatives before anyone has clicked them: attractiveness, sentiment and CTR.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Settings come from ADSCORE_… variables or --config FILE.toml; `adscore config show` lists them.",
    )
    root.params += [edge.config_option(), _version_option()]
    return root


def _version_option() -> click.Option:
    def show(context: click.Context, _option: click.Parameter, wanted: Any) -> None:
        if wanted:
            from importlib.metadata import version

            click.echo(f"adscore {version('adscore')}")
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="Show the version."
    )


def main() -> None:
    """Entry point of the `adscore` program."""
    edge.open_streams()
    status = edge.run(cli(), sys.argv[1:])
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # Work that was given up: the interpreter would wait for its threads, for as long as a sender's host likes.
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
