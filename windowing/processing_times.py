"""When each record was processed, stored for runs of records rather than for single ones."""

from bisect import bisect_right

_SHARE = 1 / 512


class ProcessingTimes:
    """Tells which records had been processed by a given moment.

    Offsets and moments only grow, so a table of (first offset of a run, moment when its last record was processed) is
    enough. A run covers at most 1/512 of `horizon_s` or, if the table reaches back further, of its reach. So there are
    no more than 512 rows for the horizon, and 512 for each time the reach grows e-fold beyond it. A record counts as
    processed when the last of its run was: up to a run too late, never too early.
    """

    def __init__(self, horizon_s: float) -> None:
        self._shortest_s = horizon_s * _SHARE
        self._first: list[int] = []
        self._began: list[float] = []
        self._ended: list[float] = []

    def __len__(self) -> int:
        return len(self._first)

    def record(self, offset: int, moment: float) -> None:
        """Record that offsets from `offset` on are processed at `moment`, or at the last moment if that is later."""
        if not self._first:
            self._append(offset, moment)
            return
        moment = max(moment, self._ended[-1])
        run_s = max(self._shortest_s, (moment - self._began[0]) * _SHARE)
        if moment - self._began[-1] < run_s:
            self._ended[-1] = moment
        else:
            self._append(offset, moment)

    def processed_by(self, moment: float) -> int | None:
        """Return the offset below which every record had been processed at `moment`; None if all had."""
        run = bisect_right(self._ended, moment)
        return self._first[run] if run < len(self._first) else None

    def forget_until(self, moment: float) -> None:
        """Drop what only moments up to this one need."""
        run = bisect_right(self._ended, moment)
        del self._first[:run], self._began[:run], self._ended[:run]

    def _append(self, offset: int, moment: float) -> None:
        self._first.append(offset)
        self._began.append(moment)
        self._ended.append(moment)
