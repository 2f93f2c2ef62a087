"""What kinds of worker have in common whose records make one frame each, with an id of their own, such as texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.core import Result
from ingest.bodies import Bodies
from ingest.labels import encode_text_labels
from ingest.record_columns import Records
from ingest.rejections import Rejection
from service.kind import Block, Stream


class Items(Protocol):
    """What was decoded of a batch, as columns: ``ids``, UTF-8, and int32[n] which record each comes from."""

    @property
    def ids(self) -> Sequence[bytes]: ...  # noqa: D102
    @property
    def record(self) -> NDArray[np.int32]: ...  # noqa: D102


Decoded = TypeVar("Decoded", bound=Items)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the labels of a block need: the ids, and int64[n] the offsets of their records."""

    ids: Sequence[bytes]
    source_offset: NDArray[np.int64]


class EachRecord(Stream, Generic[Decoded]):
    """One partition's way from records to frames, where nothing is ever open between records.

    ``frame`` makes frames (n, *input shape) of some rows of what it returned, of
    at most ``block`` at once, which should take a fraction of a second.
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
        """Decode records; return what is refused, and blocks of the rest's frames."""
        items, rejections = self._decode(records)
        return rejections, self._blocks(records, items)

    def identities(self, block: Block) -> Sequence[tuple[int, bytes]]:
        """Return the offsets of the rows' records, and their ids."""
        columns: Rows = block.columns
        return list(zip(columns.source_offset.tolist(), columns.ids, strict=True))

    def last_records(self, block: Block) -> Sequence[int]:
        """Return the offsets of the rows' records."""
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


def say(result: Result, block: Block, source: int) -> Bodies:
    """Write the labels of the items that a result is about."""
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
