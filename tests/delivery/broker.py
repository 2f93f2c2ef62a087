"""Apache Kafka, as far as the delivery protocol meets it: logs, transactions, committed offsets, a group."""

from typing import NamedTuple

from tests.delivery.windows import Record

DEAD = "dead letters"
OFFSETS = "offsets"
Place = int | str  # an output partition, the dead letters, or the topic of the offsets


class Label(NamedTuple):
    """A window that is said: the input partition and the record that it comes from, what and where it is."""

    partition: int
    device: str
    start: int
    content: tuple[int | None, ...]
    source: int

    @property
    def identity(self) -> tuple[str, int]:
        return self.device, self.start


class Letter(NamedTuple):
    """A bad record, by its place."""

    partition: int
    offset: int


class Snapshot(NamedTuple):
    """What is committed for an input partition: the offset, and the metadata beside it."""

    position: int
    rewind_to: int
    labels_from: int
    tombstones: tuple[tuple[str, int], ...] = ()


class Transaction:
    """A transaction: open, then commit or abort once that is decided; done where its marker has landed."""

    __slots__ = ("awaited", "generation", "member", "offsets", "order", "places", "state")

    def __init__(self, member: object, generation: int) -> None:
        self.member = member
        self.generation = generation
        self.state = "open"
        self.places: list[Place] = []
        self.offsets: dict[int, Snapshot] = {}
        self.order = 0
        self.awaited: list[Place] = []  # markers that have not landed

    def undecided_at(self, place: Place) -> bool:
        return place in self.places and (self.state == "open" or place in self.awaited)


class Entry(NamedTuple):
    """A record of an output log, or the marker of a transaction."""

    what: Label | Letter | None
    transaction: Transaction | None
    excused: bool = False


class Broker:
    """The logs, and who may write what."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs: list[list[Record]] = [[] for _ in range(inputs)]
        self.starts = [0] * inputs
        self.logs: dict[Place, list[Entry]] = {place: [] for place in [*range(outputs), DEAD]}
        self.committed: dict[int, Snapshot] = {}
        self.transactions: list[Transaction] = []
        self.reread: dict[int, int] = {}
        self.given_up: set[str] = set()  # devices that found no room in a snapshot
        self._order = 0
        self._committed_order: dict[int, int] = {}

    # -- writing

    def append(self, place: Place, what: Label | Letter, transaction: Transaction | None, excused: bool) -> int:
        """Append a record; return its offset."""
        if transaction is not None and place not in transaction.places:
            transaction.places.append(place)
        log = self.logs[place]
        log.append(Entry(what, transaction, excused))
        return len(log) - 1

    def begin(self, member: object, generation: int) -> Transaction:
        """Begin a transaction, once the member's last one is through."""
        for old in self.transactions:
            if old.member is member:
                while old.awaited:
                    self.land_marker(old, 0)
        transaction = Transaction(member, generation)
        self.transactions.append(transaction)
        return transaction

    def end(self, transaction: Transaction, state: str) -> bool:
        """Decide a transaction; False if it has been decided already."""
        if transaction.state != "open":
            return False
        transaction.state = state
        transaction.awaited = list(transaction.places)
        return True

    def land_marker(self, transaction: Transaction, which: int) -> None:
        """Write one marker of a decided transaction."""
        place = transaction.awaited.pop(which % len(transaction.awaited))
        if place == OFFSETS:
            if transaction.state == "commit":
                for partition, snapshot in transaction.offsets.items():
                    self._commit(partition, snapshot, transaction.order)
        else:
            self.logs[place].append(Entry(None, transaction))

    # -- reading

    def last_stable(self, place: Place) -> int:
        """Return the offset below which every transaction is decided, as its markers say."""
        log = self.logs[place]
        undecided = {id(one) for one in self.transactions if one.undecided_at(place)}
        if not undecided:
            return len(log)
        return next(offset for offset, entry in enumerate(log) if id(entry.transaction) in undecided)

    def is_committed(self, place: Place, entry: Entry) -> bool:
        one = entry.transaction
        return one is None or (one.state == "commit" and place not in one.awaited)

    def has_pending_offsets(self, partition: int) -> bool:
        return any(partition in one.offsets and one.undecided_at(OFFSETS) for one in self.transactions)

    # -- offsets

    def commit(self, partition: int, snapshot: Snapshot) -> None:
        self._order += 1
        self._commit(partition, snapshot, self._order)

    def add_offsets(self, transaction: Transaction, offsets: dict[int, Snapshot]) -> None:
        self._order += 1
        transaction.order = self._order
        transaction.offsets = offsets
        transaction.places.append(OFFSETS)

    def _commit(self, partition: int, snapshot: Snapshot, order: int) -> None:
        if order > self._committed_order.get(partition, 0):
            self._committed_order[partition] = order
            self.committed[partition] = snapshot
