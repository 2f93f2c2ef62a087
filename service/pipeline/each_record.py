"""The stream of a kind of worker that makes a frame of each item with an id in a record, such as a text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.core import Result
from ingest.messages.labels import encode_text_labels
from ingest.record_batches.bodies import Bodies
from ingest.record_batches.record_columns import Records
from ingest.rejections import Rejection
from service.kind import Block, Stream


class Items(Protocol):
    """Decoded items as columns: ``ids``, UTF-8, and ``record``, int32[n], the index of the record of each."""

    @property
    def ids(self) -> Sequence[bytes]: ...  # noqa: D102
    @property
    def record(self) -> NDArray[np.int32]: ...  # noqa: D102


Decoded = TypeVar("Decoded", bound=Items)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the labels of a block need: the ids, and the offsets of their records, int64[n]."""

    ids: Sequence[bytes]
    source_offset: NDArray[np.int64]


class EachRecord(Stream, Generic[Decoded]):
    """Turns one partition's records into frames; nothing is ever open between records.

    ``frame`` turns some rows of what ``decode`` returned into frames (n, *input shape): at most ``block`` rows at once,
    which should take a fraction of a second.
    """

    def __init__(
        self,
        decode: Callable[[Records], tuple[Decoded, Sequence[Rejection]]],
        frame: Callable[[Decoded, slice], np.ndarray],
        block: int,
    ) -> None:
        self._decode = decode
        self._frame = frame
        self._block = block

    def push(self, records: Records, processed_at: float, *, mute: bool) -> tuple[Sequence[Rejection], Iterator[Block]]:
        """Decode records; return the rejections, and blocks of frames."""
        items, rejections = self._decode(records)
        return rejections, self._blocks(records, items)

    def identities(self, block: Block) -> Sequence[tuple[int, bytes]]:
        """Return, for each row, the offset of its record and its id."""
        columns: Rows = block.columns
        return list(zip(columns.source_offset.tolist(), columns.ids, strict=True))

    def last_records(self, block: Block) -> Sequence[int]:
        """Return the offset of each row's record."""
        columns: Rows = block.columns
        return list(columns.source_offset.tolist())

    def select(self, block: Block, rows: NDArray[np.intp]) -> Block:
        """Return a block of some of its rows."""
        columns: Rows = block.columns
        chosen = Rows([columns.ids[row] for row in rows], columns.source_offset[rows])
        return Block(block.frames[rows], block.source_timestamp_ms[rows], chosen)

    def _blocks(self, records: Records, items: Decoded) -> Iterator[Block]:
        offsets, timestamps = records.offset[items.record], records.timestamp[items.record]
        for start in range(0, len(items.ids), self._block):
            rows = slice(start, start + self._block)
            yield Block(self._frame(items, rows), timestamps[rows], Rows(items.ids[rows], offsets[rows]))


def encode_labels(result: Result, block: Block, source: int) -> Bodies:
    """Encode the labels of the items in a result."""
    rows = slice(result.start, result.stop)
    columns: Rows = block.columns
    return encode_text_labels(
        ids=columns.ids[rows],
        labels=result.bundle.manifest.labels,
        probabilities=result.probabilities,
        model=result.bundle.title,
        source_partition=source,
        source_offset=columns.source_offset[rows],
        bundle_digest=result.bundle.digest,
    )
