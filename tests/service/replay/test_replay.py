import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ingest.contract import BINARY_CHUNK_CONTENT_TYPE
from ingest.messages.decode import Readings as Decoded
from ingest.messages.decode import decode
from service.cli import main
from service.replay.fleet import Fleet, FleetReadings, RecordedFleet
from service.replay.messages import Form, Messages, binary_chunk, json_chunk, packer, sample_template
from service.replay.run import Replay, open_fleet
from service.replay.sending import ReplayError, Summary
from service.replay.synthesiser import SyntheticFleet
from training.data.recordings import Recording

ORIGIN_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Record:
    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    timestamp: int = ORIGIN_MS + 3_600_000


def walker(times: list[int]) -> RecordedFleet:
    xyz = np.stack([np.arange(len(times)), np.full(len(times), 9.8), np.zeros(len(times))], axis=1)
    walking = np.full(len(times), 5, np.int8)
    return RecordedFleet([Recording("set", "1", "pocket", walking, np.array(times, np.int64), xyz.astype(np.float32))])


def packed(
    fleet: Fleet, form: Form, length_ms: float, *, chunk_ms: float = 2000, block_ms: float = 500
) -> list[Messages]:
    pack = packer(fleet, form, ORIGIN_MS, chunk_ms)
    edges = np.arange(0, length_ms, block_ms)
    return [pack(fleet.readings(at, at + block_ms), at + block_ms, last=at == edges[-1]) for at in edges]


def records(fleet: Fleet, form: Form, blocks: list[Messages]) -> list[Record]:
    headers: list[tuple[str, bytes | None]] = []
    if form is Form.BINARY:
        headers.append(("content-type", BINARY_CHUNK_CONTENT_TYPE.encode()))
    keys = [device_id.encode() for device_id in fleet.device_ids]
    return [
        Record(value, keys[device], headers)
        for block in blocks
        for device, value in zip(block.device.tolist(), block.values, strict=True)
    ]


def accepted(fleet: Fleet, form: Form, blocks: list[Messages]) -> Decoded:
    found, rejections = decode(records(fleet, form, blocks))
    assert rejections == []
    return found


def test_samples_are_what_the_decoder_makes_readings_of() -> None:
    fleet = SyntheticFleet(5, seed=1)
    found = accepted(fleet, Form.SAMPLE, packed(fleet, Form.SAMPLE, 3000))
    sent = fleet.readings(0, 3000)
    assert [device.decode() for device in found.device_ids()] == [fleet.device_ids[row] for row in sent.device]
    assert found.timestamp_ms.tolist() == (sent.timestamp_ms + ORIGIN_MS).tolist()
    assert np.allclose(found.xyz, sent.xyz, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", [Form.CHUNK, Form.BINARY])
def test_chunks_hold_every_reading_of_an_even_clock_at_its_very_time(form: Form) -> None:
    fleet = walker(list(range(0, 10_000, 50)))
    found = accepted(fleet, form, packed(fleet, form, 12_500))
    assert found.timestamp_ms.tolist() == [ORIGIN_MS + at for at in range(0, 10_000, 50)]
    assert found.xyz[:, 0].tolist() == list(range(200))


@pytest.mark.parametrize("form", [Form.CHUNK, Form.BINARY])
def test_chunks_of_a_jittering_clock_put_no_reading_far_from_its_time(form: Form) -> None:
    fleet = SyntheticFleet(20, seed=1)
    found = accepted(fleet, form, packed(fleet, form, 10_000))
    sent = fleet.readings(0, 10_000)
    assert len(found.timestamp_ms) == len(sent)
    owner = np.array([fleet.device_ids.index(device.decode()) for device in found.device_ids()])
    for device in range(20):
        times = found.timestamp_ms[owner == device] - ORIGIN_MS
        assert np.abs(times - sent.timestamp_ms[sent.device == device]).max() < 75


def test_jitter_parts_no_chunk() -> None:
    fleet = SyntheticFleet(1, seed=1)
    blocks = packed(fleet, Form.CHUNK, 20_000)
    counts = np.concatenate([block.readings for block in blocks])
    assert set(counts[1:-1].tolist()) <= {39, 40, 41}


def test_a_missing_reading_parts_a_chunk() -> None:
    fleet = walker([0, 50, 100, 200, 250, 300])
    (messages,) = packed(fleet, Form.CHUNK, 1000, block_ms=1000)
    assert messages.readings.tolist() == [3, 3]
    assert accepted(fleet, Form.CHUNK, [messages]).timestamp_ms.tolist() == [
        ORIGIN_MS + at for at in (0, 50, 100, 200, 250, 300)
    ]


def test_a_chunk_is_sent_when_its_last_reading_is_there() -> None:
    fleet = walker(list(range(0, 6000, 50)))
    blocks = packed(fleet, Form.CHUNK, 6000, chunk_ms=2000)
    due = np.concatenate([block.due_ms for block in blocks]).tolist()
    assert due == [2000, 4000, 6000]
    assert [block.readings.tolist() for block in blocks if len(block.values)] == [[40], [40], [40]]


def test_devices_take_turns_with_their_chunks() -> None:
    fleet = SyntheticFleet(100, seed=1)
    due = np.concatenate([block.due_ms for block in packed(fleet, Form.BINARY, 4000, chunk_ms=2000)])
    assert len(np.unique(np.floor(due[due < 2000] / 100))) == 20


def test_the_last_chunk_holds_what_is_left() -> None:
    fleet = walker(list(range(0, 2500, 50)))
    blocks = packed(fleet, Form.CHUNK, 3000, chunk_ms=2000)
    assert [count for block in blocks for count in block.readings.tolist()] == [40, 10]


def test_a_clock_that_stands_still_parts_a_chunk() -> None:
    class Standing(RecordedFleet):
        def readings(self, start_ms: float, stop_ms: float) -> FleetReadings:
            found = super().readings(start_ms, stop_ms)
            return FleetReadings(found.device, found.due_ms, np.full_like(found.timestamp_ms, 7), found.xyz)

    fleet = walker([0, 50, 100])
    fleet.__class__ = Standing
    (messages,) = packed(fleet, Form.CHUNK, 1000, block_ms=1000)
    assert messages.readings.tolist() == [1, 1, 1]


def test_a_device_id_may_hold_whatever_json_and_formats_treat_as_special() -> None:
    value = sample_template('100 % "d\\evice" ü') % (ORIGIN_MS, 1.0, 2.0, 3.0)
    found, rejections = decode([Record(value)])
    assert rejections == []
    assert found.device_ids() == ['100 % "d\\evice" ü'.encode()]


def test_a_single_reading_makes_a_chunk_of_the_device_s_usual_rate() -> None:
    times, xyz = np.array([ORIGIN_MS]), np.array([[1, 2, 3]], np.float32)
    assert json_chunk("a", times, xyz, 20.0) == (
        b'{"device_id":"a","start":1700000000000,"rate_hz":50.0,"samples":[[1.0000,2.0000,3.0000]]}'
    )
    assert binary_chunk("a", times, xyz, 20.0).hex() == (
        "01000100" + "00004842" + "0068e5cf8b010000" + "0000803f" + "00000040" + "00004040"
    )


def test_a_block_without_readings_makes_no_messages() -> None:
    fleet = walker([0, 50])
    for form in Form:
        assert [len(block.values) for block in packed(fleet, form, 4500)][-1] == 0


# --- what is refused, and how it is said ---------------------------------------------------------


def test_a_fleet_that_never_ends_is_refused_at_another_speed_than_its_own() -> None:
    with pytest.raises(
        ReplayError, match="this stream never ends: at a --speed other than 1, say with --seconds how many"
    ):
        Replay(SyntheticFleet(1), bootstrap_servers="127.0.0.1:1", topic="t", speed=0)


def test_a_file_that_is_repeated_without_end_is_refused_before_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """A file of recordings was read for five seconds first, and the sentence did not name the flag."""
    assert main(["replay", "--source", "not-there.csv", "--speed", "0", "--repeat"]) == 1
    output = capsys.readouterr().err
    assert output.startswith(
        "stridecast replay: this stream never ends: at a --speed other than 1, say with --seconds "
    )


@pytest.mark.parametrize(
    "flag", ["--speed=-1", "--speed=nan", "--seconds=0", "--chunk-seconds=600", "--compression=rar"]
)
def test_a_setting_out_of_its_bounds_is_refused_by_its_name(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", flag]) == 2
    name, value = flag.removeprefix("--").replace("-", "_", 1 if flag.startswith("--chunk") else 0).split("=")
    assert f"{name} = '{value}': input should be" in capsys.readouterr().err


def test_a_broker_that_is_not_there_is_named() -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound_but_deaf.getsockname()[1]}"
        sending = Replay(SyntheticFleet(1), bootstrap_servers=address, topic="t", connect_timeout_s=0.3)
        with pytest.raises(ReplayError) as refused:
            sending.run(threading.Event())
    assert f"no Kafka broker answered at {address} within 0.3 s" in str(refused.value)


def test_a_file_in_no_known_form_is_refused_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("to do: everything\n")
    with pytest.raises(ReplayError) as refused:
        open_fleet(tmp_path / "notes.txt")
    assert "notes.txt holds no readings in a known form" in str(refused.value)
    assert "WISDM v1.1 raw text, MotionSense archive, CSV" in str(refused.value)
    assert str(refused.value).endswith(
        "1 wrong number of fields (the first: line 1 is 'to do: everything'); a source is 'synthetic' or such a file"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"cannot read .*gone\.csv"):
        open_fleet(tmp_path / "gone.csv")


def test_the_synthetic_source_has_a_hundred_devices_unless_told() -> None:
    assert len(open_fleet("synthetic").device_ids) == 100
    assert len(open_fleet("synthetic", 7).device_ids) == 7


def test_another_seed_is_another_fleet_of_synthetic_devices() -> None:
    assert open_fleet("synthetic", 2, seed=3).device_ids == ["synthetic-3-00001", "synthetic-3-00002"]


def test_a_wisdm_file_becomes_one_device_a_person(tmp_path: Path) -> None:
    rows = [f"{user},Walking,{at * 50_000_000},1.0,9.8,0.5;\n" for user in (3, 4) for at in range(1, 40)]
    (tmp_path / "WISDM_ar_v1.1_raw.txt").write_text("".join(rows))
    fleet = open_fleet(tmp_path / "WISDM_ar_v1.1_raw.txt")
    assert fleet.device_ids == ["wisdm-v1-1-3-pocket", "wisdm-v1-1-4-pocket"]
    assert fleet.truth(0, 100) == "Walking"


def test_recordings_of_other_activities_are_played_too(tmp_path: Path) -> None:
    rows = [f"p,Cycling,{50 * at},1.0,9.8,0.5\n" for at in range(40)]
    (tmp_path / "mine.csv").write_text("person,activity,timestamp,x,y,z\n" + "".join(rows))
    fleet = open_fleet(tmp_path / "mine.csv")
    assert fleet.device_ids == ["mine-p-pocket"]
    assert fleet.truth(0, 100) is None


def test_a_summary_says_how_much_how_fast_and_how_late() -> None:
    assert str(Summary(1200, 24_000, 4.0, 0.2, True)) == (
        "1,200 messages with 24,000 readings in 4.0 s (300 messages/s)"
    )
    assert str(Summary(1200, 24_000, 4.0, 2.5, True)).endswith("(300 messages/s), 2.5 s behind")


@pytest.mark.parametrize(("speed", "ago_s"), [(1.0, 0), (0.5, 0), (10.0, 9), (0.0, 10)])
def test_a_stream_begins_in_the_past_where_it_is_faster_than_time(speed: float, ago_s: float) -> None:
    sending = Replay(SyntheticFleet(1), bootstrap_servers="127.0.0.1:1", topic="t", speed=speed, seconds=10)
    assert sending.begins_ago_s == pytest.approx(ago_s)


@pytest.mark.parametrize("more", [["--speed", "1"], ["--speed", "0"]])
def test_after_a_replay_of_the_past_it_says_that_a_second_one_is_late_and_what_helps(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file a second time was dropped almost whole, and only the help said why; its remedy was for others."""
    rows = [f"p,Walking,{50 * at},1.0,9.8,0.5\n" for at in range(400)]
    (tmp_path / "mine.csv").write_text("person,activity,timestamp,x,y,z\n" + "".join(rows))
    monkeypatch.setattr(Replay, "run", lambda self, *_: self.summary(finished=True))
    assert main(["replay", "--source", str(tmp_path / "mine.csv"), *more]) == 0
    output = capsys.readouterr().err
    if more == ["--speed", "1"]:
        assert "second replay" not in output
    else:
        assert (
            "the readings begin 22 s in the past: a worker that has read them drops most of a second replay" in output
        )
        assert "--speed 1, or a minute (the worker's activity.idle_timeout_s) after" in output
        assert "--seed" not in output
