"""Replays of the recorded data sets, where they lie."""

from pathlib import Path

import numpy as np
import pytest

from service.replay.fleet import Fleet
from service.replay.run import open_fleet

pytestmark = pytest.mark.recordings


def readings(fleet: Fleet) -> int:
    """How many readings all devices send, checked to be in order and each device's clock to go forward."""
    assert fleet.length_ms is not None
    found = fleet.readings(0, fleet.length_ms + 1)
    assert (np.diff(found.due_ms) >= 0).all()
    by_device = np.argsort(found.device, kind="stable")
    same_device = np.diff(found.device[by_device]) == 0
    assert (np.diff(found.timestamp_ms[by_device])[same_device] >= 0).all()
    return len(found)


def test_wisdm_s_36_people_send_all_their_readings(recordings_folder: Path) -> None:
    fleet = open_fleet(recordings_folder / "WISDM_ar_v1.1_segments_reconstructed.txt.xz")
    assert len(fleet.device_ids) == 36
    assert readings(fleet) == 933_376


def test_motionsense_s_24_people_send_all_their_readings(recordings_folder: Path) -> None:
    fleet = open_fleet(recordings_folder / "MotionSense_A_DeviceMotion.tar.xz")
    assert len(fleet.device_ids) == 24
    assert fleet.period_ms.tolist() == [20.0] * 24
    assert readings(fleet) == 1_412_865


def test_phones_in_both_pockets_are_devices_of_their_own(recordings_folder: Path) -> None:
    fleet = open_fleet(recordings_folder / "phones/difronzo_pocket.csv.xz")
    assert len(fleet.device_ids) == 8
    assert readings(fleet) == 217_637


def test_500_devices_can_be_made_of_few_people(recordings_folder: Path) -> None:
    fleet = open_fleet(recordings_folder / "phones/difronzo_pocket.csv.xz", 500, repeat=True)
    assert len(set(fleet.device_ids)) == 500
    assert 500 * 25 < len(fleet.readings(60_000, 61_000)) < 500 * 50
