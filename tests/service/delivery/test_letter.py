"""What a dead letter is sent with."""

import pytest

from tests.service.delivery.doors import make_letter


@pytest.mark.parametrize("timestamp_ms", [-(2**62), -5, 0, 1_700_000_000_000, 2**62 - 1])
def test_a_letter_keeps_its_records_timestamp(timestamp_ms: int) -> None:
    assert make_letter(timestamp_ms=timestamp_ms).fields(stamped_anew=False)["timestamp_ms"] == timestamp_ms


@pytest.mark.parametrize("timestamp_ms", [-(2**63) + 1_700_000_000_000, -(2**62) - 1, 2**62, 2**63 - 1])
def test_a_timestamp_that_no_batch_can_hold_beside_others_is_replaced(timestamp_ms: int) -> None:
    """A batch holds differences of 64 bits: they went round, and letters were written with wrong timestamps."""
    assert make_letter(timestamp_ms=timestamp_ms).fields(stamped_anew=False)["timestamp_ms"] is None
