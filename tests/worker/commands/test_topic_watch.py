"""Topics that vanish are told; brokers that don't answer, or don't know yet, are not."""

import threading
from collections.abc import Iterable

from kafka.errors import KafkaConnectionError

from tests.fakes import eventually
from worker.commands.topic_watch import TopicWatch


class Broker:
    """Answers in turn; the last one for ever."""

    def __init__(self, *answers: Iterable[str] | Exception) -> None:
        self.answers, self.asked, self.closed = list(answers), 0, False

    def list_topics(self) -> list[str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def close(self) -> None:
        self.closed = True


def test_a_topic_that_vanishes_is_told_once_with_its_mend() -> None:
    told: list[Exception] = []
    broker = Broker(["a", "b"], ["a"], ["a"])
    TopicWatch(broker, ["a", "b"], told.append, interval_seconds=0.001)
    eventually(lambda: broker.closed)
    (error,) = told
    assert "topic b" in str(error)
    assert "adscore topics create" in str(error)
    assert error.exit_code == 3  # type: ignore[attr-defined]


def test_one_answer_without_it_or_none_at_all_is_no_proof() -> None:
    told = threading.Event()
    broker = Broker([], ["a"], [], KafkaConnectionError(), KafkaConnectionError(), ["a"])
    watch = TopicWatch(broker, ["a"], lambda _: told.set(), interval_seconds=0.001)
    eventually(lambda: broker.asked > 10)
    watch.close()
    eventually(lambda: broker.closed)
    assert not told.is_set()
