from hypothesis import given
from hypothesis import strategies as st

from ingest.record_batches.bodies import Outgoing, pack, unpack

HEADERS = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=200)), max_size=4)


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=10_000), HEADERS), max_size=5))
def test_what_is_packed_can_be_read_back(records: list[Outgoing]) -> None:
    bodies = pack(records)
    assert unpack(bodies) == records
    assert len(bodies) == len(records)
    assert bodies.begins[-1] == len(bodies.content)
