"""The interface of a kind of worker: what differs between kinds. ``service/pipeline/worker.py`` has what all share.

A kind is one short file like ``service/activity_worker.py`` or ``service/text_worker.py``: how records become frames
(a ``Stream``) and how predictions become labels (``encode_labels``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.core import Result
from ingest.record_batches.bodies import Bodies
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.configuration.settings import KindSettings
from service.delivery.published import Identity
from service.monitoring.metrics import WorkerMetrics


class WorkerError(Exception):
    """The worker can't start or go on; the text says why, and what to do if anything can be done."""


@dataclass(frozen=True, slots=True)
class Block:
    """Frames cut from one partition, a row each, with what their labels need.

    ``frames`` is (n, *input shape) in the bundle's dtype. ``source_timestamp_ms`` int64[n] is the Kafka timestamp of
    the record that completed each, -1 if none did. ``columns`` is whatever ``encode_labels`` needs of the rows.
    ``silent`` says that silence closed them, which a replay doesn't notice.
    """

    frames: np.ndarray
    source_timestamp_ms: np.ndarray
    columns: Any
    silent: bool = False


class Stream:
    """Turns one partition's records into frames; a new one for each assignment.

    The defaults fit a kind that holds nothing open between records. All methods but ``labelled`` and ``len`` are called
    on the worker's thread.
    """

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        """Decode records; return the rejections, and the rest as blocks, which are cut lazily.

        ``processed_at`` is on the clock of ``fall_silent``. A stream that goes by the log's own time uses that instead,
        and closes by itself what has waited too long by the log. ``mute`` marks records that are replayed only to
        rebuild open windows: nothing of them is published or may be counted, and their blocks only say what has closed.
        """
        raise NotImplementedError

    def fall_silent(self, caught_up_at: float) -> Iterator[Block]:
        """Close what has waited too long for more by ``caught_up_at``: see ``ingest/consumer/fetch_progress.py``."""
        return iter(())

    def rewind_to(self, position: int) -> int:
        """Return the offset of the oldest record in anything open; ``position`` if nothing is open."""
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
        """Return, for each row, the offset of the last record that went into it."""
        raise NotImplementedError

    def select(self, block: Block, rows: NDArray[np.intp]) -> Block:
        """Return a block of some of its rows."""
        raise NotImplementedError

    def is_open(self, identity: Identity) -> bool:
        """Return whether the window, or the like, of this identity is open."""
        return False

    def __len__(self) -> int:
        """Return how many devices, or whatever the kind counts, have an open window, or the like."""
        return 0

    def count_duplicates(self, count: int) -> None:
        """Count closed windows, or the like, that were published before."""

    def take_late(self) -> tuple[int, int]:
        """Return how many readings came since the last call, and how many of them were dropped as late."""
        return 0, 0

    def labelled(self, block: Block, rows: slice, at: float) -> None:
        """Record that Kafka has the labels of these rows at ``at`` (epoch s); called on the producer's thread."""


OpenStream = Callable[[TopicPartition], Stream]


class Prepare(Protocol):
    """Prepares for the records of a kind; returns the function that opens a partition's stream."""

    def __call__(self, bundle: Bundle, metrics: WorkerMetrics, /) -> OpenStream:
        """Raise WorkerError for a bundle that takes other frames than this kind makes."""


class EncodeLabels(Protocol):
    """Encodes the labels of some rows of a block, in their order."""

    def __call__(self, result: Result, block: Block, source: int, /) -> Bodies:
        """Encode the rows of ``result`` with its probabilities; ``source`` is the number of the input partition.

        ``ingest.record_batches.bodies.pack`` makes the return value from keys, values and headers.
        """


class Keeper(Protocol):
    """Keeps some of what was published, for people to look at; it must neither fail nor block."""

    def start(self) -> None:
        """Start; called once, when the worker starts."""

    def offer(self, result: Result, block: Block, source: TopicPartition, /) -> None:
        """Keep what is worth it of a result that was just published; called on the publisher's thread."""

    def close(self, timeout_s: float, /) -> None:
        """Write what was taken, and end."""


class Identify(Protocol):
    """Reads the identity of a label in the output topic; None if the record is no such label."""

    def __call__(self, record: Any, source_offset: int, /) -> Identity | None:
        """Read it; ``source_offset`` is the offset of the input record in the label's headers."""


def by_source(record: Any, source_offset: int) -> Identity:
    """Identify a label by its source offset and its key, for kinds that make one label of each record.

    The offset alone won't do: a topic that is created anew has the same offsets as the old one, whose labels are still
    there.
    """
    return source_offset, record.key


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of worker: its name in logs and metrics, its topics and bundle, and what it does with records.

    ``features`` computes features of frames by name, to be compared with those of the training set. ``counts`` names
    what the lengths of its streams count, for the gauge ``stridecast_active_<counts>``. ``rules`` are the settings that
    decide which records count and when a window closes: a worker with other rules can't silently take over open
    windows. ``open_keeper`` may raise WorkerError, for a folder that can't be written to.
    """

    name: str
    settings: KindSettings
    prepare: Prepare
    encode_labels: EncodeLabels
    counts: str | None = None
    features: Callable[[NDArray[Any]], Mapping[str, NDArray[np.float32]]] | None = None
    identify: Identify = by_source
    rules: str = ""
    open_keeper: Callable[[WorkerMetrics], Keeper] | None = None


def check_input(bundle: Bundle, shape: tuple[int, ...], dtype: str, setting: str) -> None:
    """Raise WorkerError unless the bundle, chosen by ``setting``, takes frames of this shape and dtype."""
    taken = bundle.manifest.input
    if (taken.shape, taken.dtype) != (shape, dtype):
        raise WorkerError(
            f"{bundle.title} takes frames of {taken.dtype} {list(taken.shape)}, and this worker makes {dtype} "
            f"{list(shape)}: name a bundle for them with {setting}"
        )
