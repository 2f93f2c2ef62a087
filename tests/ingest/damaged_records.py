"""Feeds the compiled loop damaged records, checks that all it reports lies inside them, and prints a digest of it.

Run by itself it says the same whichever way the loop is run: compiled, with bounds checked, or interpreted.
"""

import hashlib
import random
import warnings

import numpy as np

from ingest.record_batches.record_places import (
    COLUMNS,
    END,
    FURTHEST,
    KEY,
    KEY_END,
    VALUE,
    VALUE_END,
    find_records,
    warm_up,
)
from tests.ingest.batches import record

WILD = [b"\xff" * 9, b"\xff" * 8 + b"\x7f", b"\xfe" * 8 + b"\x7f", b"\x80" * 9 + b"\x01", b"\x01", b"\xff\x0f", b""]


def digest(rounds: int = 4000) -> str:
    hasher, rng = hashlib.sha256(), random.Random(5)
    for _ in range(rounds):
        raw = bytearray(b"".join(_record(offset, rng) for offset in range(rng.randint(0, 5))))
        for _ in range(rng.choice([0, 1, 1, 2])):
            _damage(raw, rng)
        bases = rng.choice([0, -1, FURTHEST, -FURTHEST, FURTHEST + 1, -(2**63)]), rng.choice([0, FURTHEST])
        places = np.full((COLUMNS, rng.randint(0, 7)), -7, np.int64)
        found, at, sizes = find_records(np.frombuffer(bytes(raw), np.uint8), 0, *bases, rng.randint(0, 1), places)
        _check(places[:, :found], len(raw))
        hasher.update(repr([int(found), int(at), int(sizes), places.tolist()]).encode())
    return hasher.hexdigest()


def _record(offset: int, rng: random.Random) -> bytes:
    key, value = (rng.choice([None, b"", b"few", b"m" * 200]) for _ in range(2))
    headers = [(b"name", rng.choice([None, b"", b"content"])) for _ in range(rng.choice([0, 0, 1, 3]))]
    return record(offset, value, key, headers, rng.randint(-(2**61), 2**61), padding=rng.choice([0, 0, 0, 1, 3]))


def _damage(raw: bytearray, rng: random.Random) -> None:
    at = rng.randint(0, min(len(raw), rng.choice([12, 300])))
    kind = rng.random()
    if kind < 0.2:
        del raw[max(0, len(raw) - rng.randint(1, 3)) :]
    elif kind < 0.6 and at < len(raw):
        raw[at] ^= 1 << rng.randint(0, 7)
    else:
        raw[at : at + rng.randint(0, 2)] = rng.choice(WILD)


def _check(places: np.ndarray, size: int) -> None:
    begun = 0
    for row in places.T.tolist():
        for start, end in ((row[KEY], row[KEY_END]), (row[VALUE], row[VALUE_END])):
            assert start == -1 or begun <= start <= end
        assert begun < row[KEY_END] < row[VALUE_END] < row[END] <= size
        begun = row[END]


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)  # NumPy's way of saying that an int64 overflowed
    warm_up()
    print(digest())
