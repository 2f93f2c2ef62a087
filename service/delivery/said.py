"""What has been said already, and could be found open again: see "the snapshot" and "recovery" in docs/delivery.md."""

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

Identity = Hashable
"""What makes two labels the same: a device and its window's start, or the offset of a text's record and its id."""

ELSEWHERE = -1
"""The place of a label that is in another partition of the output than its successors: the topic had fewer before."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a label is, and for how long it matters.

    No label of the identity lies before ``label`` in the output, unless it is ``ELSEWHERE``; no record of the input
    after ``record`` is known to have gone into it.
    """

    label: int
    record: int


class Said:
    """The labels of one partition that a replay from the rewind point could find open again: a few, as a rule.

    They are those that were reread when the partition came, and those of devices that have fallen silent since. A
    mark is dropped when its window closes by time, after which no replay can find it open, or when the rewind point
    has passed its record and it isn't open.
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
        """Remember windows that closed by silence: their labels are not before ``label``, and may yet be on their way.

        ``records`` are the last ones of their devices.
        """
        for identity, record in zip(identities, records, strict=True):
            known = self._marks.get(identity)
            mark = Mark(label if known is None else known.label, record)
            self._marks[identity] = mark
            if known is None:
                heapq.heappush(self._by_label, (label, _Key(identity)))
            heapq.heappush(self._by_record, (record, _Key(identity)))

    def forget(self, identities: Iterable[Identity]) -> None:
        """Drop windows that have closed by time."""
        for identity in identities:
            self._marks.pop(identity, None)

    def oldest_label(self, rewind_to: int, is_open: Callable[[Identity], bool]) -> int | None:
        """Drop what the rewind point has passed; return where the oldest of the other labels may be, None if none."""
        self._sweep(rewind_to, is_open)
        return self.first()

    def first(self) -> int | None:
        """Return where the oldest of the labels may be; None if there is none."""
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
    """An identity in a heap, where equals come in any order."""

    identity: Identity

    def __lt__(self, other: "_Key") -> bool:
        return False
