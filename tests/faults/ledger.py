"""Account for every record: each ends in exactly one of output, dead letters, superseded. Counted, never sampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.wire import Found, Place, committed, read_all


@dataclass(frozen=True)
class Ledger:
    """What became of the records sent."""

    sent: Sequence[Place]
    outputs: Sequence[Found]
    dead: Sequence[Found]
    offsets: Mapping[int, int] = field(default_factory=dict)

    @property
    def published(self) -> Counter[Place]:
        """How often each record was published as an output."""
        return Counter(found.source for found in self.outputs)

    @property
    def dead_lettered(self) -> Counter[Place]:
        """How often each record was dead-lettered."""
        return Counter(found.source for found in self.dead)

    @property
    def repeated(self) -> list[Place]:
        """Records that ended more than once."""
        return sorted(place for place, times in (self.published + self.dead_lettered).items() if times > 1)

    def check(self, *, superseded: Collection[Place] = (), repeats: bool = False, whole: bool = True) -> None:
        """Fail with the list of what is lost, made up, in both places, committed unfinished, or repeated.

        superseded: records that must have no output. repeats: whether at-least-once may have repeated some.
        whole: whether all records have had their time; else only what is committed must be finished.
        """
        ended = self.published.keys() | self.dead_lettered.keys() | set(superseded)
        behind = [place for place in self.sent if place[1] < self.offsets.get(place[0], 0)]
        wrong = {
            "lost": sorted(set(self.sent) - ended) if whole else [],
            "phantom": sorted(ended - set(self.sent)),
            "in output and dead letters": sorted(self.published.keys() & self.dead_lettered.keys()),
            "superseded but published": sorted(set(superseded) & self.published.keys()),
            "committed but unfinished": sorted(set(behind) - ended),
            "repeated": [] if repeats else self.repeated,
        }
        told = [f"{name}: {places}" for name, places in wrong.items() if places]
        assert not told, f"of {len(self.sent)} records (partition, offset) " + "; ".join(told)


def ledger(servers: str, topics, sent: Sequence[Place]) -> Ledger:
    """Read the topics of a scenario, its group's offsets first, so that what they cover must be there."""
    offsets = committed(servers, topics.group_id, topics.input)
    return Ledger(sent, read_all(servers, topics.output), read_all(servers, topics.dlq), offsets)
