"""Records as columns: the bytes in which they lie, and the places of their parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ingest.fetched import FetchedRecord, _cut


@dataclass(frozen=True, slots=True, eq=False)
class Records(Sequence[FetchedRecord]):
    """Consumed records; each is made when it is asked for.

    Attributes:
        raw: the bytes in which the parts of the records lie
        places: int64[COLUMNS, n], the rows of `ingest.record_places`
    """

    raw: bytes
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.places.shape[1])

    @overload
    def __getitem__(self, at: int) -> FetchedRecord: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...
    def __getitem__(self, at: int | slice) -> FetchedRecord | Records:
        if isinstance(at, slice):
            return Records(self.raw, self.places[:, at])
        return _cut(self.raw, *self.places[:, [range(len(self))[at]]].tolist())[0]

    def __iter__(self) -> Iterator[FetchedRecord]:
        return iter(_cut(self.raw, *self.places.tolist()))
