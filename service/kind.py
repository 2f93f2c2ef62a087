"""What one kind of worker does differently from another; all else is the same for all: see ``service/worker.py``.

A kind is one short file like ``service/activity_worker.py`` or ``service/text_worker.py``: how records become
frames (a ``Stream``) and how predictions become labels (``say``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.core import Result
from ingest.bodies import Bodies
from ingest.record_columns import Records
from ingest.rejections import Rejection
from service.delivery.said import Identity
from service.metrics import WorkerMetrics
from service.settings import KindSettings


class WorkerError(Exception):
    """The worker can't begin or go on; the text says why, and what to do where something can be done."""


@dataclass(frozen=True, slots=True)
class Block:
    """Frames cut from one partition, a row each, with what their labels need.

    ``frames`` is (n, *input shape) in the bundle's dtype; ``source_timestamp_ms`` int64[n] is the Kafka timestamp of
    the record that completed each, -1 where none did; ``columns`` is whatever ``say`` wants to know of the rows.
    ``silent`` tells that a silence closed them, which no replay hears.
    """

    frames: np.ndarray
    source_timestamp_ms: np.ndarray
    columns: Any
    silent: bool = False


class Stream:
    """One partition's way from records to frames; made anew for each assignment.

    The defaults are those of a kind that holds nothing open between records: each record makes its own frames.
    Called on the worker's thread alone, but for ``labelled`` and ``len``.
    """

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        """Decode records; return what is refused of them, and the rest as blocks, cut as they are asked for.

        ``processed_at`` is the clock that ``fall_silent`` is asked with; a stream that goes by the log's own time
        takes that instead, and closes by itself what the log leaves waiting. ``mute`` marks records that are read again
        only to rebuild what was open: nothing of them is published or may be counted, and their blocks only tell
        what has closed.
        """
        raise NotImplementedError

    def fall_silent(self, caught_up_at: float) -> Iterator[Block]:
        """Close what has waited too long for more by ``caught_up_at``: see ``ingest/fetch_progress.py``."""
        return iter(())

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record that something open holds; ``position`` where nothing is open."""
        return position

    def restore(self, skip_until: Mapping[bytes, int]) -> None:
        """Take over which devices to skip, each up to which record, from the last commit; called before any `push`."""

    def skip_until(self) -> Mapping[bytes, int]:
        """Return which devices a replay from the rewind point must skip, and up to which record."""
        return {}

    def identities(self, block: Block) -> Sequence[Identity]:
        """Return the identity of each row of a block, as ``Kind.identify`` reads it back from the label."""
        raise NotImplementedError

    def last_records(self, block: Block) -> Sequence[int]:
        """Return the offset of the last record that went into each row."""
        raise NotImplementedError

    def select(self, block: Block, rows: NDArray[np.intp]) -> Block:
        """Return a block of some of its rows."""
        raise NotImplementedError

    def is_open(self, identity: Identity) -> bool:
        """Tell whether what would get this label is open now."""
        return False

    def __len__(self) -> int:
        """Return how many devices, or whatever the kind counts, have something open."""
        return 0

    def found_said(self, count: int) -> None:
        """Take note that so many closed windows, or the like, have been said already."""

    def labelled(self, block: Block, rows: slice, at: float) -> None:
        """Take note that Kafka has the labels of these rows, at this epoch second; called on the producer's thread."""


OpenStream = Callable[[TopicPartition], Stream]


class Prepare(Protocol):
    """Makes ready for the records of a kind, and returns what opens a partition's stream."""

    def __call__(self, bundle: Bundle, metrics: WorkerMetrics, /) -> OpenStream:
        """Raises WorkerError for a bundle that takes other frames than this kind makes."""


class Say(Protocol):
    """Writes the labels of some rows of a block, in their order."""

    def __call__(self, result: Result, block: Block, source: int, /) -> Bodies:
        """``result`` has the rows and their probabilities; ``source`` is the input partition.

        ``ingest.bodies.pack`` makes its answer of keys, values and headers.
        """


class Keeper(Protocol):
    """Puts some of what was said aside, for people to look at; it must neither fail nor keep anybody waiting."""

    def start(self) -> None:
        """Begin; called once, when the worker does."""

    def offer(self, result: Result, block: Block, source: TopicPartition, /) -> None:
        """Take what is worth it of what was just said of a partition; called on the publisher's thread."""

    def close(self, timeout_s: float, /) -> None:
        """Bring away what was taken."""


class Identify(Protocol):
    """Reads the identity of what a label on Kafka is about; None where the record is no such label."""

    def __call__(self, record: Any, source_offset: int, /) -> Identity | None:
        """``source_offset`` is the record of the input that the label names."""


def by_source(record: Any, source_offset: int) -> Identity:
    """Identify labels by their source and their key: for kinds whose records make one label each.

    The offset alone won't do: a topic that was made anew has the offsets of the old one, whose labels are still there.
    """
    return source_offset, record.key


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of worker: its name in logs and metrics, its topics and bundle, and what it does with records.

    ``features`` says by name what frames are like, to be compared with the frames that the bundle learned from.
    ``counts`` is what the lengths of its streams count, for the gauge ``stridecast_active_<counts>``. ``rules`` are
    the settings that decide which records count and when a window closes: what another worker with others left open
    can't be taken up silently. ``open_keeper`` may raise WorkerError, for what can't be written where it should go.
    """

    name: str
    settings: KindSettings
    prepare: Prepare
    say: Say
    counts: str | None = None
    features: Callable[[NDArray[Any]], Mapping[str, NDArray[np.float32]]] | None = None
    identify: Identify = by_source
    rules: str = ""
    open_keeper: Callable[[WorkerMetrics], Keeper] | None = None


def check_input(bundle: Bundle, shape: tuple[int, ...], dtype: str, setting: str) -> None:
    """Raise WorkerError unless the bundle, which ``setting`` names, takes frames of this shape and dtype."""
    taken = bundle.manifest.input
    if (taken.shape, taken.dtype) != (shape, dtype):
        raise WorkerError(
            f"{bundle.title} takes frames of {taken.dtype} {list(taken.shape)}, and this worker makes {dtype} "
            f"{list(shape)}: name a bundle for them with {setting}"
        )
