"""What goes into a transaction, and what follows from its end, on a producer that does as it is told."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

from ingest.client.errors import IngestError
from ingest.producer.transactions import (
    AbortableError,
    FencedError,
    RefusedError,
    SpoiltError,
    StaleError,
    TooLargeError,
    UnwritableError,
)
from ingest.record_batches.bodies import Bodies
from service.delivery import exactly_once, withheld
from service.delivery.exactly_once import ABORTED_S, GATHER_S, MOST_LABELS, REOPEN_S, ExactlyOnce
from service.delivery.partition import Partition
from tests.clock import Clock
from tests.service.delivery.doors import (
    MEMBER,
    NOBODY,
    FakeAssignment,
    make_letter,
    make_metrics,
    make_partition,
    owe,
    promise,
    together,
    values_in,
)

INTERVAL_S = 1.0


class FakeTransactions:
    """Acknowledges every send; ends transactions as ``fates`` says, then well."""

    def __init__(self, *fates: Exception) -> None:
        self.fates = list(fates)
        self.too_large: list[bytes] = []
        self.sends_up_to: int | None = None  # bytes of a value; more are too large for any broker
        self.refuses_from: int | None = None  # bytes of a value; after one, nothing else is written
        self.spoilt = False
        self.refuses_old = False
        self.stamps: list[int | None] = []
        self.open: list[bytes] | None = None  # values sent
        self.commits: list[tuple[list[bytes], dict[int, OffsetAndMetadata], ConsumerGroupMetadata]] = []
        self.aborted: list[list[bytes]] = []
        self.unknown: set[str] = set()
        self.unwritable: set[str] = set()
        self.hurries = False  # Kafka refuses while others are still being sent
        self.closed = False
        self.meanwhile: Callable[[], None] = lambda: None
        self._end = 200

    def begin(self) -> None:
        assert self.open is None
        self.open = []

    def send(self, topic: str, *, value: bytes, timestamp_ms: int | None, **message: Any) -> Any:
        if self.sends_up_to is not None and len(value) > self.sends_up_to:
            raise RefusedError("too large for any broker")
        self.stamps.append(timestamp_ms)
        if self.spoilt and self.hurries:
            raise SpoiltError("of another")
        future = self._keep([value])
        future.fate = None
        if self.spoilt:
            future.fate = SpoiltError("of another")
        elif self.refuses_from is not None and len(value) >= self.refuses_from:
            future.fate, self.spoilt = TooLargeError("too large"), True
        future.is_old = self.refuses_old and timestamp_ms is not None
        return future

    def send_bodies(self, partition: TopicPartition, bodies: Bodies, timestamp_ms: int) -> Any:
        return self._keep(values_in(bodies))

    def _keep(self, values: list[bytes]) -> Any:
        assert self.open is not None
        self.open += values
        self._end += len(values)
        is_too_large = not set(values).isdisjoint(self.too_large)
        return SimpleNamespace(value=self._end - 1, is_too_large=is_too_large, is_old=False, fate=None)

    def knows(self, topic: str) -> bool:
        return topic not in self.unknown

    def await_send(self, future: Any, topic: str) -> None:
        if topic in self.unwritable:
            raise UnwritableError("it is gone")
        self.await_sends([future])

    def await_sends(self, futures: Sequence[Any]) -> None:
        for future in futures:
            if future.fate is not None:
                raise future.fate
        if any(future.is_too_large for future in futures):
            raise RefusedError("too large")
        if any(future.is_old for future in futures):
            raise StaleError("too old")

    def commit(self, offsets: Any, group: ConsumerGroupMetadata) -> None:
        assert self.open is not None
        self.meanwhile()
        if self.fates:
            raise self.fates.pop(0)
        by_number = {source.partition: offset for source, offset in offsets.items()}
        self.commits.append((self.open, by_number, group))
        self.open = None

    def abort(self) -> None:
        assert self.open is not None
        self.aborted.append(self.open)
        self.open = None

    def close(self, timeout_s: float) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(exactly_once, "time", clock)
    monkeypatch.setattr(withheld, "time", clock)
    return clock


def make(assignment: FakeAssignment, *opened: FakeTransactions, wake: Callable[[], None] = lambda: None) -> ExactlyOnce:
    producers = list(opened)

    def open_transactions() -> FakeTransactions:
        if not producers:
            raise IngestError("no broker")
        return producers.pop(0)

    delivery = ExactlyOnce(
        assignment,  # type: ignore[arg-type]
        make_metrics(),
        open_transactions=open_transactions,  # type: ignore[arg-type]
        wake=wake,
        commit_interval_s=INTERVAL_S,
    )
    delivery.turn()  # there is nothing yet: the interval begins
    return delivery


def gather(delivery: ExactlyOnce, clock: Clock) -> None:
    """Have a turn that begins a transaction, and another when it is time to end it."""
    delivery.turn()
    clock.now += 2 * GATHER_S
    delivery.turn()


def test_labels_and_the_positions_behind_them_go_together(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    delivery.publish(owe(partition, 2, position=10))
    gather(delivery, clock)
    [(sent, offsets, group)] = transactions.commits
    assert (sent, offsets[0].offset, group) == ([b"0", b"1"], 10, MEMBER)
    assert partition.ledger.settled


def test_a_transaction_gathers_labels_for_a_moment_and_no_more_of_them_than_its_share(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    delivery.publish(owe(partition, 1, position=10))
    delivery.turn()
    assert (len(transactions.open or []), transactions.commits) == (1, [])
    delivery.publish(owe(partition, MOST_LABELS, position=20))
    delivery.turn()
    [(sent, offsets, _)] = transactions.commits
    assert (len(sent), offsets[0].offset) == (MOST_LABELS, 10)
    gather(delivery, clock)
    assert (len(transactions.commits[1][0]), transactions.commits[1][1][0].offset) == (1, 20)


def test_the_labels_of_a_result_stay_together_and_count_one_by_one(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    first, second = owe(partition, 2 * MOST_LABELS, position=10), owe(partition, 1, position=20)
    delivery.publish([together(first), *second])
    delivery.turn()
    [(sent, offsets, _)] = transactions.commits
    assert (len(sent), offsets[0].offset) == (2 * MOST_LABELS, 10)
    assert partition.output.end == 200 + 2 * MOST_LABELS
    assert partition.ledger.owed == 1


def test_a_partition_that_is_labelled_has_its_position_in_the_transaction_though_it_has_not_changed(
    clock: Clock,
) -> None:
    """Kafka checks a member for the partitions whose offsets it commits alone."""
    found = OffsetAndMetadata(7, "as it was found", -1)
    labelled, other = make_partition(0, committed_before=found), make_partition(1)
    transactions = FakeTransactions()
    delivery = make(FakeAssignment(labelled, other), transactions)
    first, _ = owe(labelled, 2, position=10)
    owe(other, 0, position=30)
    delivery.publish([first])
    gather(delivery, clock)
    [(_, offsets, _)] = transactions.commits
    assert offsets[0] == found
    assert offsets[1].offset == 30


def test_an_abort_takes_back_what_was_acknowledged_and_says_it_again(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions(AbortableError("the group has moved on"))
    delivery = make(FakeAssignment(partition), transactions)
    delivery.publish(owe(partition, 2, position=10))
    gather(delivery, clock)
    assert transactions.aborted == [[b"0", b"1"]]
    assert (partition.ledger.owed, partition.ledger.committable()) == (2, None)
    clock.now += 2 * ABORTED_S
    gather(delivery, clock)
    [(sent, offsets, _)] = transactions.commits
    assert (sent, offsets[0].offset) == ([b"0", b"1"], 10)


def test_a_snapshot_taken_while_labels_look_acknowledged_goes_with_them_after_an_abort(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions(AbortableError("the group has moved on"))
    labels = owe(partition, 1, position=10) + promise(partition, 1)
    delivery = make(FakeAssignment(partition), transactions)

    def seal() -> None:  # the worker's thread, while Kafka answers
        partition.position = 20
        partition.seal()

    transactions.meanwhile = seal
    delivery.publish(labels)
    gather(delivery, clock)
    clock.now += 2 * ABORTED_S
    gather(delivery, clock)
    [(sent, offsets, _)] = transactions.commits
    assert (sent, offsets[0].offset) == ([b"0", b"0"], 20)


def test_a_fence_recovers_every_partition_and_goes_on_with_another_producer(clock: Clock) -> None:
    first, second = FakeTransactions(FencedError("no answer")), FakeTransactions()
    partitions = [make_partition(0), make_partition(1)]
    delivery = make(FakeAssignment(*partitions), first, second)
    delivery.publish(owe(partitions[0], 1, position=10))
    gather(delivery, clock)
    assert [partition for partition, _ in delivery.failed] == partitions
    assert not any(partition.alive for partition in partitions)
    assert (first.closed, first.commits, first.aborted) == (True, [], [])
    clock.now += 2 * REOPEN_S
    gather(delivery, clock)
    assert (second.open, second.commits) == (None, [])  # what was published is read back


def test_another_producer_is_tried_for_until_a_broker_answers(clock: Clock) -> None:
    first = FakeTransactions(FencedError("no answer"))
    partition = make_partition()
    delivery = make(FakeAssignment(partition), first)
    delivery.publish(owe(partition, 1, position=10))
    gather(delivery, clock)
    for _ in range(3):
        clock.now += 2 * REOPEN_S
        assert delivery.turn() == REOPEN_S


def test_a_label_that_its_topic_takes_at_no_time_has_its_partition_recovered(clock: Clock) -> None:
    transactions, partition = FakeTransactions(), make_partition()
    transactions.too_large = [b"0"]
    delivery = make(FakeAssignment(partition), transactions)
    delivery.publish(owe(partition, 1, position=10))
    gather(delivery, clock)
    [(failed, error)] = delivery.failed
    assert failed is partition
    assert "too large" in str(error)


def test_a_dead_letter_waits_for_the_position_behind_its_record(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    first, second = owe(partition, 2, position=10)
    delivery.reject([make_letter()], partition)
    partition.position = 20
    partition.seal()
    assert delivery.letter_bytes_waiting(partition) == make_letter().size
    delivery.publish([first])
    gather(delivery, clock)
    assert [sent for sent, _, _ in transactions.commits] == [[b"0"]]
    delivery.publish([second])
    gather(delivery, clock)
    assert transactions.commits[1][0] == [b"1", b"bad"]
    assert transactions.commits[1][1][0].offset == 20
    assert delivery.letter_bytes_waiting(partition) == 0


def test_many_bytes_of_dead_letters_keep_all_from_reading_and_leave_at_once(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Each partition had to have some itself to pause: 24 records of 50 MB, one in each, took a worker 2 GB."""
    monkeypatch.setattr(exactly_once, "HURRIED_BYTES", make_letter().size)
    partitions, transactions, woken = [make_partition(0), make_partition(1)], FakeTransactions(), list[str]()
    delivery = make(FakeAssignment(*partitions), transactions, wake=lambda: woken.append("publisher"))
    delivery.reject([make_letter()], partitions[0])
    partitions[0].position = 10
    assert delivery.letter_bytes_waiting(partitions[1]) == make_letter().size
    delivery.commit()
    assert woken == ["publisher"]
    delivery.turn()
    assert [sent for sent, _, _ in transactions.commits] == [[b"bad"]]
    assert delivery.letter_bytes_waiting(partitions[1]) == 0


def test_dead_letters_of_an_aborted_transaction_are_sent_again(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions(AbortableError("the group has moved on"))
    delivery = make(FakeAssignment(partition), transactions)
    delivery.reject([make_letter()], partition)
    partition.position = 10
    delivery.commit()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert transactions.aborted == [[b"bad"]]
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    [(sent, offsets, _)] = transactions.commits
    assert (sent, offsets[0].offset) == ([b"bad"], 10)


def test_a_dead_letter_that_is_too_large_is_given_up_and_the_others_go_by_another_producer(clock: Clock) -> None:
    first, second, partition = FakeTransactions(), FakeTransactions(), make_partition()
    first.too_large = [b"huge"]
    delivery = make(FakeAssignment(partition), first, second)
    delivery.reject([make_letter(b"huge"), make_letter()], partition)
    partition.position = 10
    delivery.commit()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert (first.closed, first.commits) == (True, [])
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    [(sent, offsets, _)] = second.commits
    assert (sent, offsets[0].offset) == ([b"bad"], 10)
    assert not delivery.failed


@pytest.mark.parametrize("hurries", [False, True])
def test_of_many_dead_letters_that_are_too_large_all_are_given_up_at_once(hurries: bool, clock: Clock) -> None:
    """One was, or none where Kafka refused it while the others were being sent, and every partition recovered."""
    first, second, partition = FakeTransactions(), FakeTransactions(), make_partition()
    first.refuses_from, first.hurries = 4, hurries
    delivery = make(FakeAssignment(partition), first, second)
    letters = [make_letter(value, offset=offset) for offset, value in enumerate((b"bad", b"huge", b"larger", b"bad"))]
    delivery.reject(letters, partition)
    partition.position = 10
    delivery.commit()
    for _ in range(2):
        clock.now += 2 * INTERVAL_S
        delivery.turn()
    assert [sent for sent, _, _ in second.commits] == [[b"bad", b"bad"]]
    assert not delivery.failed


def test_a_dead_letter_is_given_up_once_though_another_is_refused_after_it(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """One too large for any broker was counted again with those that its topic refused in the same transaction."""
    given_up = list[bytes | None]()
    monkeypatch.setattr(exactly_once, "give_up", lambda letter, *_: given_up.append(letter.value))
    first, second, partition = FakeTransactions(), FakeTransactions(), make_partition()
    first.sends_up_to, first.refuses_from = 6, 4
    delivery = make(FakeAssignment(partition), first, second)
    delivery.reject([make_letter(b"gigantic"), make_letter(b"large"), make_letter()], partition)
    partition.position = 10
    delivery.commit()
    for _ in range(2):
        clock.now += 2 * INTERVAL_S
        delivery.turn()
    assert given_up == [b"gigantic", b"large"]
    assert [sent for sent, _, _ in second.commits] == [[b"bad"]]


def test_what_was_given_up_is_remembered_for_a_recovery(clock: Clock) -> None:
    """It was forgotten when the partition was recovered, refused again, and so on."""
    first, partition = FakeTransactions(), make_partition()
    first.refuses_from = 4
    assignment = FakeAssignment(partition)
    delivery = make(assignment, first)
    delivery.reject([make_letter(b"huge", offset=7), make_letter(b"bad", offset=8)], partition)
    partition.position = 10
    delivery.commit()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert assignment.undeliverable.of(partition.source) == {7}


def test_labels_do_not_wait_for_all_dead_letters_that_are_refused_one_after_another(clock: Clock) -> None:
    producers = [FakeTransactions() for _ in range(3)]
    partitions = [make_partition(0), make_partition(1)]
    for producer in producers:
        producer.refuses_from = 4
    delivery = make(FakeAssignment(*partitions), *producers)
    delivery.reject([make_letter(b"x" * size, offset=size) for size in (6, 5, 4)], partitions[0])
    partitions[0].position = 10
    delivery.commit()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert producers[0].closed
    delivery.publish(owe(partitions[1], 1, position=20))
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    [(sent, offsets, _)] = producers[1].commits
    assert (sent, set(offsets)) == ([b"0"], {1})


@pytest.mark.parametrize("how", ["unknown", "unwritable"])
def test_dead_letters_whose_topic_is_gone_keep_out_of_transactions_and_their_positions_with_them(
    how: str, clock: Clock
) -> None:
    """Every transaction waited ten seconds for the topic, and had all partitions recovered."""
    first, second = FakeTransactions(), FakeTransactions()
    partitions = [make_partition(0), make_partition(1)]
    setattr(first, how, {"dead"})
    delivery = make(FakeAssignment(*partitions), first, second)
    delivery.reject([make_letter()], partitions[0])
    partitions[0].position = 10
    delivery.commit()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert ([set(offsets) for _, offsets, _ in first.commits], list(delivery.failed)) in (([], []), ([{1}], []))
    assert delivery.letter_bytes_waiting(partitions[0]) == make_letter().size
    assert delivery.letter_bytes_waiting(partitions[1]) == 0
    now = second if how == "unwritable" else first
    assert first.closed == (how == "unwritable")
    second.unknown = {"dead"}
    delivery.publish(owe(partitions[1], 1, position=20))
    clock.now += 0.2  # it is still waited for
    gather(delivery, clock)
    sent, offsets, _ = now.commits[-1]
    assert (sent, set(offsets)) == ([b"0"], {1})
    now.unknown = set()
    clock.now += 40 * INTERVAL_S
    delivery.turn()
    sent, offsets, _ = now.commits[-1]
    assert (sent, offsets[0].offset) == ([b"bad"], 10)


def test_dead_letters_whose_topic_refuses_old_timestamps_get_new_ones(clock: Clock) -> None:
    """Each of them, and every partition, was tried again for ever."""
    first, second, partition = FakeTransactions(), FakeTransactions(), make_partition()
    first.refuses_old = second.refuses_old = True
    delivery = make(FakeAssignment(partition), first, second)
    delivery.reject([make_letter(b"1", timestamp_ms=7), make_letter(b"2", timestamp_ms=7)], partition)
    partition.position = 10
    delivery.commit()
    for _ in range(2):
        clock.now += 2 * INTERVAL_S
        delivery.turn()
    assert [sent for sent, _, _ in second.commits] == [[b"1", b"2"]]
    assert (first.stamps, second.stamps, list(delivery.failed)) == ([7, 7], [None, None], [])


def test_a_transaction_takes_a_bounded_number_of_dead_letters_of_all_partitions_in_turn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog in a schema that nobody reads was more than one transaction has time for, again and again."""
    monkeypatch.setattr(exactly_once, "MOST_LETTERS", 3)
    partitions, transactions = [make_partition(0), make_partition(1)], FakeTransactions()
    delivery = make(FakeAssignment(*partitions), transactions)
    for turn in range(3):
        for partition in partitions:
            delivery.reject([make_letter()] * 3, partition)
            partition.position = 10 * (turn + 1)
            partition.seal()
    for _ in range(7):
        clock.now += 2 * INTERVAL_S
        delivery.turn()
    committed = [{number: at.offset for number, at in offsets.items()} for _, offsets, _ in transactions.commits]
    assert committed == [{0: 10}, {1: 10}, {0: 20}, {1: 20}, {0: 30}, {1: 30}]
    assert [len(sent) for sent, _, _ in transactions.commits] == [3] * 6


def test_no_transaction_begins_without_membership(clock: Clock) -> None:
    """The broker would check nothing, and let a zombie commit."""
    partition, transactions = make_partition(), FakeTransactions()
    assignment = FakeAssignment(partition)
    delivery = make(assignment, transactions)
    assignment.group = NOBODY
    delivery.publish(owe(partition, 1, position=10))
    gather(delivery, clock)
    assert transactions.open is None
    assignment.group = MEMBER
    gather(delivery, clock)
    assert transactions.commits[0][2] == MEMBER


def test_the_generation_is_that_of_the_transactions_beginning(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    assignment = FakeAssignment(partition)
    delivery = make(assignment, transactions)
    delivery.publish(owe(partition, 1, position=10))
    delivery.turn()
    assignment.group = MEMBER._replace(generation_id=4)
    clock.now += 2 * GATHER_S
    delivery.turn()
    assert transactions.commits[0][2] == MEMBER


def test_labels_of_a_revoked_partition_are_not_published_and_its_transaction_is_aborted(clock: Clock) -> None:
    stays, goes, transactions = make_partition(0), make_partition(1), FakeTransactions()
    assignment = FakeAssignment(stays, goes)
    delivery = make(assignment, transactions)
    delivery.publish(owe(stays, 1, position=10) + owe(goes, 1, position=10))
    delivery.turn()
    lose(assignment, goes)
    clock.now += 2 * GATHER_S
    delivery.turn()
    assert (len(transactions.aborted), transactions.commits) == (1, [])
    clock.now += 2 * ABORTED_S
    gather(delivery, clock)
    [(sent, offsets, _)] = transactions.commits
    assert (len(sent), set(offsets)) == (1, {0})


def lose(assignment: FakeAssignment, partition: Partition) -> None:
    assignment.remove(partition)
    partition.alive = False


def test_a_partition_is_let_go_when_the_open_transaction_holds_nothing_of_it(clock: Clock) -> None:
    partition, other = make_partition(0), make_partition(1)
    delivery = make(FakeAssignment(partition, other), FakeTransactions())
    delivery.publish(owe(partition, 1, position=10))
    delivery.turn()
    assert not delivery.nothing_in_flight({partition.source})
    assert delivery.nothing_in_flight({other.source})
    clock.now += 2 * GATHER_S
    delivery.turn()
    assert delivery.nothing_in_flight({partition.source})


def test_who_waits_for_a_partition_to_be_settled_has_the_transaction_end_at_once(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    woken: list[bool] = []
    delivery = make(FakeAssignment(partition), transactions, wake=lambda: woken.append(True))
    delivery.publish(owe(partition, 1, position=10))
    delivery.turn()
    assert not delivery.settled([partition])
    assert woken
    delivery.turn()
    assert len(transactions.commits) == 1
    assert not delivery.settled([partition])  # the next snapshot knows where that label lies
    delivery.turn()
    assert delivery.settled([partition])


def test_a_position_without_labels_is_committed_when_the_interval_is_over(clock: Clock) -> None:
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    partition.position = 10
    delivery.commit()
    delivery.turn()
    assert transactions.commits == []
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    [(sent, offsets, _)] = transactions.commits
    assert (sent, offsets[0].offset) == ([], 10)


def test_a_dead_letter_is_in_the_transaction_that_passes_it_whatever_the_worker_does_meanwhile(clock: Clock) -> None:
    """A snapshot taken while Kafka answers stands in the place of the one that is committed."""
    partition, transactions = make_partition(), FakeTransactions()
    delivery = make(FakeAssignment(partition), transactions)
    delivery.reject([make_letter()], partition)
    partition.position = 10
    delivery.commit()

    def seal() -> None:
        partition.position += 10
        delivery.commit()

    transactions.meanwhile = seal
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    clock.now += 2 * INTERVAL_S
    delivery.turn()
    assert [(sent, offsets[0].offset) for sent, offsets, _ in transactions.commits] == [([b"bad"], 10), ([], 20)]
