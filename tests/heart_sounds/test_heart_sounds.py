"""The third sibling without a broker: its framing, its messages, its training, and the document that it proves."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.architectures import ARCHITECTURES
from ingest.records import Headers
from service.cli import COMMANDS
from service.settings import SettingsError, load
from tests.heart_sounds.framing import BINS, FLOOR, FRAME, HOP, WINDOW, spectrograms
from tests.heart_sounds.messages import SOUND_BYTES, decode_sounds
from tests.heart_sounds.plain import probabilities, train
from tests.heart_sounds.synthetic import LABELS, synthetic_sounds
from tests.heart_sounds.worker import Options
from tests.test_rooms import FORBIDDEN, ROOT, imported

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs/add-a-model.md"


# --- The pieces --------------------------------------------------------------------------------------------------


def test_a_frame_is_the_log_power_of_each_window_by_the_definition_of_the_fourier_transform() -> None:
    sounds, _ = synthetic_sounds(3, seed=2)
    frames = spectrograms(sounds)
    assert frames.shape == (3, *FRAME)
    assert frames.dtype == np.float32
    angles = 2 * np.pi * np.outer(np.arange(BINS), np.arange(WINDOW)) / WINDOW
    for sound, frame in zip(sounds, frames, strict=True):
        for time, row in enumerate(frame):
            window = sound[time * HOP : time * HOP + WINDOW] / 2**15 * np.hanning(WINDOW)
            power = ((np.cos(angles) @ window) ** 2 + (np.sin(angles) @ window) ** 2) / WINDOW
            assert row == pytest.approx(np.log(power + FLOOR), abs=1e-3)


def test_silence_and_the_loudest_sound_make_finite_frames() -> None:
    loudest = np.where(np.arange(2000) % 40 < 20, 2**15 - 1, -(2**15)).astype(np.int16)
    assert np.isfinite(spectrograms(np.stack([np.zeros(2000, np.int16), loudest]))).all()
    assert spectrograms(np.empty((0, 2000), np.int16)).shape == (0, *FRAME)


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0


values = st.none() | st.binary(max_size=10) | st.just(b"\1\2" * 2000) | st.sampled_from([b"\0" * 3999, b"\0" * 4001])
keys = st.none() | st.binary(max_size=4) | st.just(b"x" * 512) | st.just(b"x" * 513)


@given(st.lists(st.builds(Record, keys, values), max_size=20))
def test_every_record_is_a_sound_or_a_rejection(records: list[Record]) -> None:
    sounds, rejections = decode_sounds(records)
    assert sorted([*sounds.record.tolist(), *(rejection.record for rejection in rejections)]) == list(
        range(len(records))
    )
    assert sounds.samples.shape == (len(sounds.ids), 2000)
    for row, record in enumerate(sounds.record):
        assert sounds.ids[row] == records[record].key
        assert sounds.samples[row].astype("<i2").tobytes() == records[record].value
    for rejection in rejections:
        key, value = records[rejection.record][:2]
        assert value is None or len(value) != SOUND_BYTES or not is_id(key)


def is_id(key: bytes | None) -> bool:
    try:
        return key is not None and 1 <= len(key) <= 512 and bool(key.decode())
    except UnicodeDecodeError:
        return False


def test_the_network_learns_to_tell_synthetic_sounds_apart_in_seconds(tmp_path: Path) -> None:
    folder = train(tmp_path / "synthetic-heart")
    sounds, targets = synthetic_sounds(800, seed=7)
    right = probabilities(folder, sounds).argmax(axis=1) == targets
    for number, label in enumerate(LABELS):
        assert right[targets == number].mean() > 0.9, label


def test_its_settings_come_from_a_file_and_the_environment_as_those_of_the_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "heart.toml"
    file.write_text('[heart]\nbundle = "from-file"\ninput_topic = "from-file"\n')
    monkeypatch.setenv("STRIDECAST_HEART__INPUT_TOPIC", "from-environment")
    heart = load(Options, ["--config", str(file), "--heart.output-topic", "from-flag"], "test").heart
    assert (heart.bundle, heart.input_topic, heart.output_topic) == ("from-file", "from-environment", "from-flag")
    monkeypatch.setenv("STRIDECAST_HEART__INPUT_TOPPIC", "x")
    with pytest.raises(SettingsError, match="STRIDECAST_HEART__INPUT_TOPIC"):
        load(Options, [], "test")


# --- The document ------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    """The cells of the document's table of files, without their backquotes."""
    lines = re.findall(r"^\| `.*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_document_lists_every_file_of_the_example_with_its_length() -> None:
    told = {example: int(lines) for _, example, lines, _ in rows() if not lines.startswith("+")}
    proofs = {"__init__.py", "__main__.py", "plain.py", "synthetic.py", Path(__file__).name}
    files = {path.name: path for path in HERE.glob("*.py") if path.name not in proofs}
    assert told == {name: len(path.read_text().splitlines()) for name, path in files.items()}


def test_the_files_that_the_document_adds_lines_to_exist_and_the_ones_that_it_adds_do_not() -> None:
    for path, _, lines, _ in rows():
        assert (ROOT / path).is_file() == lines.startswith("+"), path
        assert (ROOT / path).parent.is_dir()


def test_the_program_of_the_example_is_the_program_with_the_lines_that_the_document_counts() -> None:
    lines = (HERE / "__main__.py").read_text().splitlines()
    added = {path: int(count) for path, _, count, _ in rows() if count.startswith("+")}
    assert added == {
        "inference/architectures/__init__.py": sum("SpectrogramCnn" in line for line in lines),
        "service/cli.py": sum(line.startswith("COMMANDS[") for line in lines),
    }


def test_each_piece_imports_only_what_the_room_that_it_is_for_may() -> None:
    rooms = {example: path.partition("/")[0] for path, example, lines, _ in rows() if not lines.startswith("+")}
    assert set(rooms.values()) == {"ingest", "windowing", "inference", "training", "service"}
    for example, room in rooms.items():
        assert set(imported(HERE / example)) & FORBIDDEN.get(room, set()) == set(), example


def test_the_code_of_the_document_is_the_code_of_the_example() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    code = "\n".join(path.read_text() for path in HERE.glob("*.py"))
    assert len(blocks) >= 5
    for block in blocks:
        assert block in code, block
    assert (HERE / "worker.py").read_text().partition("\n\n")[2] in document


def test_the_lists_that_the_document_extends_are_the_programs_own() -> None:
    assert "spectrogram-cnn" not in ARCHITECTURES
    assert not any("heart" in command for command in COMMANDS)
