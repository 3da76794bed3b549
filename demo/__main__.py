"""Publish real creatives, wait for every one of them, and show what became of them.

    make demo                 200 generated creatives, and everything that goes wrong with some
    make demo INPUT=FOLDER    your own: a folder of images, or JSONL of events

Expects a broker and Redis in ADSCORE_KAFKA__BOOTSTRAP_SERVERS and ADSCORE_REDIS__URL, with topics of their own.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from demo.account import Account, take
from demo.cast import Cast, write_cast
from demo.processes import DemoError, RunningWorker, environment, verb, worker
from demo.tell import Run, print_run, write_page, write_summary
from demo.web import serving
from worker.commands import kafka, reading
from worker.errors import FatalError
from worker.settings import Settings, load

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 60.0
MIN_COUNT = 10


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration; 0 when every record is accounted for."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--input", help="a folder of images or a JSONL file of events, instead of generated creatives")
    parser.add_argument("--count", type=int, default=200, help="generated creatives (200)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for report.html and summary.json (demo/)")
    options = parser.parse_args(arguments)
    if options.count < MIN_COUNT:
        parser.error(f"--count {options.count}: at least {MIN_COUNT}, for some are sent again in other ways")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it, all that it started ends with it
    try:
        with tempfile.TemporaryDirectory(prefix="adscore-demo-") as folder:
            return demonstrate(Path(folder), options.input, options.count, options.out)
    except (DemoError, FatalError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def demonstrate(folder: Path, given: str | None, count: int, out: Path) -> int:
    """The whole walk. folder: for what is generated; out: for what stays."""
    images = folder / "creatives"
    images.mkdir()
    with serving(images) as web:
        env = environment(web)
        settings = load(None, env).settings
        if verb("topics", "create", "--partitions", "4", env=env) != 0:
            raise DemoError("the topics can't be created")
        log = folder / "worker.log"
        with worker(env, log) as running:
            _say(f"making {count} creatives on photographs" if given is None else f"taking {given}")
            cast = None if given else write_cast(images, web, count=count, max_bytes=settings.fetch.max_bytes)
            running.wait_ready()
            source = given or str(images / "creatives.jsonl")
            refused = verb("publish", source, env=env)
            with kafka.reached(settings.kafka):
                published = _published(settings, cast)
            if refused and (given is None or not published):
                raise DemoError(f"{'nothing' if given else 'not everything'} could be published")
            running.wait_finished(published, PATIENCE_SECONDS)
            run = _finish(running)
        account = take(settings)
        summary = account.summary(run.superseded)
        print_run(account, summary, run)
        write_summary(out / "summary.json", summary, run, account)
        write_page(out / "report.html", account, summary, run, source, settings)
    return _verdict(account, summary, cast)


def _published(settings: Settings, cast: Cast | None) -> int:
    """Send what no event can express, and count the records on the input topic."""
    topic = settings.kafka.input_topic
    if cast:
        with kafka.producer(settings.kafka) as client:
            futures = [kafka.send(client, topic, key, value, ()) for key, value in cast.raw]
            for future in futures:
                future.get(timeout=30)
    with kafka.consumer(settings.kafka) as client:
        first, end = reading.span(client, topic)
    return sum(end[part] - first[part] for part in end)


def _finish(running: RunningWorker) -> Run:
    outcomes = running.outcomes()
    return Run(
        superseded=outcomes.get("superseded", 0),
        peak_mib=running.peak_mib(),
        cores=len(os.sched_getaffinity(0)),
    )


def _verdict(account: Account, summary: dict[str, int], cast: Cast | None) -> int:
    """1 when a record is missing, or a broken creative got another code than its own."""
    wrong = []
    if summary["missing"]:
        wrong.append(f"{summary['missing']} records are missing: {account.unanswered[:10]}")
    for letter in account.dead_letters.values():
        expected = cast.expected_codes.get(str(letter["key"])) if cast else letter["code"]
        if letter["code"] != expected:
            wrong.append(f"{letter['key']}: dead letter {letter['code']}, expected {expected or 'none'}")
    for problem in wrong:
        print(f"demo: {problem}", file=sys.stderr)
    return 1 if wrong else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
