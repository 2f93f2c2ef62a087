"""Kafka, as far as delivery depends on it: logs, transactions and committed offsets; ``group.py`` has the group."""

from typing import NamedTuple

from tests.delivery.windower import Record

DEAD_LETTERS = "dead letters"
OFFSETS = "offsets"
Destination = int | str  # an output partition, the dead-letter topic, or the topic of the offsets
Identity = tuple[str, int]  # device and window start


class Label(NamedTuple):
    """A published window: its input partition, its device, start and content, and the record that closed it."""

    source_partition: int
    device: str
    start: int
    content: tuple[int | None, ...]
    source_offset: int

    @property
    def identity(self) -> Identity:
        return self.device, self.start


class Letter(NamedTuple):
    """The dead letter of a bad record: where the record is."""

    source_partition: int
    source_offset: int


class Snapshot(NamedTuple):
    """A commit of an input partition: the offset, and the metadata beside it (``ingest/snapshot.py``)."""

    position: int
    rewind_to: int
    labels_from: int
    skip_until: tuple[tuple[str, int], ...] = ()


class Transaction:
    """A transaction. Its ``state`` is "open", then "commit" or "abort"; it ends where its marker has been written."""

    __slots__ = ("destinations", "generation", "member", "offsets", "order", "pending_markers", "state")

    def __init__(self, member: object, generation: int) -> None:
        self.member = member
        self.generation = generation
        self.state = "open"
        self.destinations: list[Destination] = []
        self.offsets: dict[int, Snapshot] = {}
        self.order = 0
        self.pending_markers: list[Destination] = []  # where its marker has not been written yet

    def is_pending_at(self, destination: Destination) -> bool:
        return destination in self.destinations and (self.state == "open" or destination in self.pending_markers)


class Entry(NamedTuple):
    """A record of an output log, or the marker of a transaction. A copy that is ``excused`` may be a duplicate."""

    value: Label | Letter | None
    transaction: Transaction | None
    excused: bool = False


class Broker:
    """The logs, the transactions and the commits."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs: list[list[Record]] = [[] for _ in range(inputs)]
        self.log_starts = [0] * inputs
        self.logs: dict[Destination, list[Entry]] = {destination: [] for destination in [*range(outputs), DEAD_LETTERS]}
        self.committed: dict[int, Snapshot] = {}
        self.transactions: list[Transaction] = []
        self.read_back_at: dict[int, int] = {}  # when the labels of each input partition were last read back
        self.overflow: set[str] = set()  # devices that found no room in a commit
        self._order = 0
        self._committed_order: dict[int, int] = {}

    # -- writing

    def append(
        self, destination: Destination, value: Label | Letter, transaction: Transaction | None, excused: bool
    ) -> int:
        """Append a record; return its offset."""
        if transaction is not None and destination not in transaction.destinations:
            transaction.destinations.append(destination)
        log = self.logs[destination]
        log.append(Entry(value, transaction, excused))
        return len(log) - 1

    def begin(self, member: object, generation: int) -> Transaction:
        """Begin a transaction, after writing all markers of the member's last one."""
        for old in self.transactions:
            if old.member is member:
                while old.pending_markers:
                    self.write_marker(old, 0)
        transaction = Transaction(member, generation)
        self.transactions.append(transaction)
        return transaction

    def end(self, transaction: Transaction, state: str) -> bool:
        """Commit or abort a transaction; return False if that has happened already."""
        if transaction.state != "open":
            return False
        transaction.state = state
        transaction.pending_markers = list(transaction.destinations)
        return True

    def write_marker(self, transaction: Transaction, which: int) -> None:
        """Write one marker of a transaction that has ended."""
        destination = transaction.pending_markers.pop(which % len(transaction.pending_markers))
        if destination == OFFSETS:
            if transaction.state == "commit":
                for partition, snapshot in transaction.offsets.items():
                    self._commit(partition, snapshot, transaction.order)
        else:
            self.logs[destination].append(Entry(None, transaction))

    # -- reading

    def last_stable_offset(self, destination: Destination) -> int:
        """Return the last stable offset: below it, every transaction has its marker."""
        log = self.logs[destination]
        pending = {id(one) for one in self.transactions if one.is_pending_at(destination)}
        if not pending:
            return len(log)
        return next(offset for offset, entry in enumerate(log) if id(entry.transaction) in pending)

    def is_committed(self, destination: Destination, entry: Entry) -> bool:
        one = entry.transaction
        return one is None or (one.state == "commit" and destination not in one.pending_markers)

    def has_pending_offsets(self, partition: int) -> bool:
        return any(partition in one.offsets and one.is_pending_at(OFFSETS) for one in self.transactions)

    # -- offsets

    def commit(self, partition: int, snapshot: Snapshot) -> None:
        self._order += 1
        self._commit(partition, snapshot, self._order)

    def add_offsets(self, transaction: Transaction, offsets: dict[int, Snapshot]) -> None:
        self._order += 1
        transaction.order = self._order
        transaction.offsets = offsets
        transaction.destinations.append(OFFSETS)

    def _commit(self, partition: int, snapshot: Snapshot, order: int) -> None:
        if order > self._committed_order.get(partition, 0):
            self._committed_order[partition] = order
            self.committed[partition] = snapshot
