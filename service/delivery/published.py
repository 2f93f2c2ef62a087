"""Published labels whose windows a replay could find open again: see "The snapshot" in docs/delivery.md."""

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

Identity = Hashable
"""What two labels of the same thing share: device and window start, or the offset of a text's record and its id."""

ELSEWHERE = -1
"""The offset of a label in another output partition than its successors': partitions were added to the topic."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a label lies, and until when it matters.

    No label of the identity lies before offset ``label`` in the output, unless that is ``ELSEWHERE``. ``record`` is the
    last input record that is known to have gone into its window.
    """

    label: int
    record: int


class Published:
    """The published labels of one partition whose windows a replay from the rewind point could find open: usually few.

    They are those that were read back when the partition was assigned, and those of devices that have fallen silent
    since. One is dropped when its window closes by time, after which no replay finds it open, or when the rewind point
    has passed its record and its window isn't open.
    """

    def __init__(self, marks: Mapping[Identity, Mark] | None = None) -> None:
        self._marks: dict[Identity, Mark] = dict(marks or {})
        self._by_label = [(mark.label, _Key(identity)) for identity, mark in self._marks.items()]
        self._by_record = [(mark.record, _Key(identity)) for identity, mark in self._marks.items()]
        heapq.heapify(self._by_label)
        heapq.heapify(self._by_record)

    def __len__(self) -> int:
        return len(self._marks)

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._marks

    def remember(self, identities: Iterable[Identity], label: int, records: Iterable[int]) -> None:
        """Remember windows that silence closed. Their labels, which may still be in flight, lie at ``label`` or after.

        ``records`` are the last records of their devices.
        """
        for identity, record in zip(identities, records, strict=True):
            known = self._marks.get(identity)
            mark = Mark(label if known is None else known.label, record)
            self._marks[identity] = mark
            if known is None:
                heapq.heappush(self._by_label, (label, _Key(identity)))
            heapq.heappush(self._by_record, (record, _Key(identity)))

    def forget(self, identities: Iterable[Identity]) -> None:
        """Drop windows that closed by time."""
        for identity in identities:
            self._marks.pop(identity, None)

    def oldest_label(self, rewind_to: int, is_open: Callable[[Identity], bool]) -> int | None:
        """Drop what the rewind point has passed; return the lowest offset of the labels left, None without any."""
        self._sweep(rewind_to, is_open)
        return self.first()

    def first(self) -> int | None:
        """Return the lowest offset of the labels; None without any."""
        while self._by_label:
            label, key = self._by_label[0]
            mark = self._marks.get(key.identity)
            if mark is not None and mark.label == label:
                return label
            heapq.heappop(self._by_label)
        return None

    def _sweep(self, rewind_to: int, is_open: Callable[[Identity], bool]) -> None:
        still_open = []
        while self._by_record and self._by_record[0][0] < rewind_to:
            record, key = heapq.heappop(self._by_record)
            mark = self._marks.get(key.identity)
            if mark is None or mark.record != record:
                continue
            if is_open(key.identity):
                still_open.append((record, key))
            else:
                del self._marks[key.identity]
        for entry in still_open:
            heapq.heappush(self._by_record, entry)


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """An identity as part of a heap's entries: it doesn't decide their order."""

    identity: Identity

    def __lt__(self, other: "_Key") -> bool:
        return False
