"""The account of a scene: what was sent against what came out. Pure: every check is shown to fail in its tests.

lost                      neither output, dead letter nor superseded
phantom                   came out and was never sent, or with another creative, revision or fate than its own
in both places            output and dead letters hold it
superseded but published  an older revision behind a newer one's output
duplicated                ended more often than the guarantee allows: exactly-once never twice; at-least-once only
                          what was published in the last second before a death, or lay behind the oldest unfinished
stale revision last       the last output of a creative is not its newest revision
unlike without cache      scores differ from those of a run without cache
hanging transaction       the brokers hold a partition back long after its transaction should have ended
committed past unfinished an offset was committed before the record below it was durable
uncommitted               all is finished, and the group's offset isn't at the end
seen and gone             a reader of committed records saw what is not there afterwards
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.load import DEAD, OUTPUT, SUPERSEDED, WITHDRAWN, Sent
from tests.faults.watch import Commit, Seen
from tests.faults.wire import Place

COMMIT_EVERY_MS = 1_000


@dataclass(frozen=True)
class Evidence:
    """All that is known after a scene."""

    sent: Sequence[Sent]
    during: Sequence[Seen]
    """In the order in which the consumer saw it."""
    after: Sequence[Seen]
    """Of each partition in order."""
    commits: Sequence[Commit]
    open_transactions: Mapping[tuple[str, int], int] = field(default_factory=dict)
    deaths_ms: Sequence[int] = ()
    """When a worker died or was evicted: what may be repeated follows from it (at-least-once)."""
    silences_ms: Sequence[int] = ()
    """When a worker was cut off or frozen, and lived: what it held then may come from it and from its successor."""
    refusals_ms: Sequence[int] = ()
    """When a commit was refused: a group whose members join takes none, so what a death then repeats reaches back."""
    exactly_once: bool = False
    slack_ms: int = 0
    """For a loaded machine, on which a commit that is due waits for its turn."""
    scores: Mapping[int, Any] = field(default_factory=dict)
    """Per image the scores of a run without cache; empty: not compared."""


@dataclass(frozen=True)
class Account:
    """`wrong` holds every violation, by check; `repeats` all that ended more than once, allowed or not."""

    wrong: Mapping[str, Sequence[Any]]
    repeats: int
    ended: Mapping[str, int]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.wrong.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many violations there are of each check."""
        return {name: len(found) for name, found in self.wrong.items()}

    def told(self, most: int = 12) -> str:
        """What is wrong, record by record, for a failed cell."""
        return "\n".join(
            f"  {name}: {len(found)}: {', '.join(map(str, found[:most]))}{' …' if len(found) > most else ''}"
            for name, found in self.wrong.items()
            if found
        )


def account(evidence: Evidence) -> Account:
    """Count everything."""
    sent = {record.place: record for record in evidence.sent}
    ends: dict[Place, list[Seen]] = defaultdict(list)
    for record in evidence.after:
        ends[record.source].append(record)
    for records in ends.values():
        records.sort(key=lambda record: record.timestamp_ms)
    places = {place: {bool(record.code) for record in records} for place, records in ends.items()}
    repeated = {place: records for place, records in ends.items() if len(records) > 1}
    wrong: dict[str, Sequence[Any]] = {
        "lost": sorted(place for place, record in sent.items() if record.fate != SUPERSEDED and place not in ends),
        "phantom": sorted(
            place for place, records in ends.items() for record in records if not _own(sent.get(place), record)
        ),
        "in both places": sorted(place for place, kinds in places.items() if len(kinds) > 1),
        "superseded but published": _superseded_but_published(evidence, ends),
        "duplicated": _too_often(evidence, ends, repeated),
        "stale revision last": _stale_last(evidence),
        "unlike without cache": sorted(
            place
            for place, records in ends.items()
            for record in records
            if evidence.scores and place in sent and not _alike(record.scores, evidence.scores.get(sent[place].image))
        ),
        "hanging transaction": sorted(evidence.open_transactions.items()),
        "committed past unfinished": _committed_early(evidence, ends),
        "uncommitted": _uncommitted(evidence),
        "seen and gone": _seen_and_gone(evidence),
    }
    fates = Counter(record.fate for record in evidence.sent)
    return Account(wrong, sum(len(records) - 1 for records in repeated.values()), dict(sorted(fates.items())))


def _own(sent: Sent | None, found: Seen) -> bool:
    """Whether the record is what its source must lead to (a superseded one that was published is told elsewhere)."""
    if sent is None or found.creative_id != sent.creative_id:
        return False
    if sent.fate in (DEAD, WITHDRAWN):
        return found.code == sent.code and found.lastmod is None
    return not found.code and found.lastmod == sent.lastmod and found.status == "scored"


def _alike(found: Mapping[str, float] | None, expected: Mapping[str, float] | None) -> bool:
    """Within what another batch may change (1e-3)."""
    if found is None:
        return True  # a dead letter or a withdrawal
    if expected is None or found.keys() != expected.keys():
        return False
    return all(found[head] is not None and abs(found[head] - expected[head]) <= 1e-3 for head in expected)


def _superseded_but_published(evidence: Evidence, ends: Mapping[Place, Sequence[Seen]]) -> list[Place]:
    published = sorted(record.place for record in evidence.sent if record.fate == SUPERSEDED and record.place in ends)
    if evidence.exactly_once:
        return published
    # Read again after a death, a record may come before a withdrawal that had its effect already: the memory is that
    # of what came back behind it. The withdrawal follows again, so nothing stale is left.
    withdrawn: dict[str, Place] = {}
    for record in evidence.sent:
        if record.fate == WITHDRAWN:
            withdrawn[record.creative_id] = max(record.place, withdrawn.get(record.creative_id, (0, 0)))
    names = {record.place: record.creative_id for record in evidence.sent}
    return [place for place in published if withdrawn.get(names[place], (-1, -1)) < place]


def _too_often(
    evidence: Evidence, ends: Mapping[Place, Sequence[Seen]], repeated: Mapping[Place, Sequence[Seen]]
) -> list[Place]:
    if evidence.exactly_once:
        return sorted(repeated)
    deaths = sorted([*evidence.deaths_ms, *evidence.silences_ms])
    sent_ms = {record.place: record.sent_ms for record in evidence.sent}
    recent = {death: _uncommitted_since(evidence, death) for death in deaths}
    oldest = {death: _oldest_unfinished(evidence, ends, recent[death]) for death in deaths}
    beyond = []
    for place, records in repeated.items():
        for first, second in itertools.pairwise(records):
            between = deaths[bisect.bisect_left(deaths, first.timestamp_ms) :]
            between = [death for death in between if death <= second.timestamp_ms]
            allowed = any(
                first.timestamp_ms >= recent[death] or place[1] >= oldest[death].get(place[0], 2**63)
                for death in between
            )
            held = any(
                sent_ms.get(place, 0) <= silence <= second.timestamp_ms and first.timestamp_ms >= recent[silence]
                for silence in evidence.silences_ms
            )
            if not (allowed or held):
                beyond.append(place)
    return sorted(set(beyond))


def _uncommitted_since(evidence: Evidence, death_ms: int) -> int:
    """From when on what was published may not have been committed by the death."""
    since, step = death_ms, COMMIT_EVERY_MS + evidence.slack_ms
    for refusal in sorted((moment for moment in evidence.refusals_ms if moment < death_ms), reverse=True):
        if since - refusal > step:
            break
        since = refusal
    return since - step


def _oldest_unfinished(evidence: Evidence, ends: Mapping[Place, Sequence[Seen]], recent: int) -> dict[int, int]:
    """Per partition the first record that was not finished at `recent` (ms): behind it all may be repeated."""
    oldest: dict[int, int] = {}
    for record in evidence.sent:
        partition, offset = record.place
        if record.fate != SUPERSEDED and record.place in ends and ends[record.place][0].timestamp_ms >= recent:
            oldest[partition] = min(offset, oldest.get(partition, offset))
    return oldest


def _stale_last(evidence: Evidence) -> list[str]:
    """Creatives whose last output is not that of their last record that counts."""
    expected: dict[str, int | None] = {}
    for record in sorted(evidence.sent, key=lambda record: record.place):
        if record.fate in (OUTPUT, WITHDRAWN):
            expected[record.creative_id] = record.lastmod
    last = {record.creative_id: record.lastmod for record in evidence.after if not record.code}
    return sorted(name for name, lastmod in expected.items() if name in last and last[name] != lastmod)


def _committed_early(evidence: Evidence, ends: Mapping[Place, Sequence[Seen]]) -> list[tuple[Place, int]]:
    """Records that were not out when an offset beyond them was committed, and how many ms later they were."""
    by_partition: dict[int, list[int]] = defaultdict(list)
    covered: dict[Place, int] = {}
    for record in sorted(evidence.sent, key=lambda record: record.place):
        if record.fate == SUPERSEDED:
            continue  # finished without an output
        by_partition[record.place[0]].append(record.place[1])
    done: dict[int, int] = defaultdict(int)
    for commit in sorted(evidence.commits, key=lambda commit: commit.timestamp_ms):
        offsets = by_partition[commit.partition]
        until = bisect.bisect_left(offsets, commit.offset)
        for offset in offsets[done[commit.partition] : until]:
            covered[(commit.partition, offset)] = commit.timestamp_ms
        done[commit.partition] = max(until, done[commit.partition])
    late = []
    for place, committed_ms in covered.items():
        if place in ends and ends[place][0].timestamp_ms > committed_ms:
            late.append((place, ends[place][0].timestamp_ms - committed_ms))
    return sorted(late)


def _uncommitted(evidence: Evidence) -> list[str]:
    committed: dict[int, int] = {}
    for commit in sorted(evidence.commits, key=lambda commit: commit.timestamp_ms):
        committed[commit.partition] = commit.offset
    last: dict[int, int] = {}
    for record in evidence.sent:
        last[record.place[0]] = max(record.place[1], last.get(record.place[0], -1))
    return [
        f"partition {partition}: {committed.get(partition)} of {offset + 1}"
        for partition, offset in sorted(last.items())
        if committed.get(partition) != offset + 1
    ]


def _seen_and_gone(evidence: Evidence) -> list[Any]:
    """What the consumer saw that is not there, saw twice, or saw out of order."""
    there = {record.where: record for record in evidence.after}
    gone: list[Any] = []
    position: dict[tuple[str, int], int] = {}
    for record in evidence.during:
        partition = record.topic, record.partition
        if there.get(record.where) != record or record.offset <= position.get(partition, -1):
            gone.append(record.where)
        position[partition] = max(record.offset, position.get(partition, -1))
    return gone


def longest_silence(after: Sequence[Seen], since_ms: int, until_ms: int) -> dict[int, int]:
    """Per input partition the longest time (ms) in which none of its records came out, between the two moments."""
    times: dict[int, list[int]] = defaultdict(list)
    for record in after:
        times[record.source[0]].append(record.timestamp_ms)
    silences = {}
    for partition, found in times.items():
        found.sort()
        first = max(0, bisect.bisect_left(found, since_ms) - 1)
        last = bisect.bisect_right(found, until_ms) + 1
        within = found[first:last]
        silences[partition] = max((b - a for a, b in itertools.pairwise(within)), default=0)
    return silences
