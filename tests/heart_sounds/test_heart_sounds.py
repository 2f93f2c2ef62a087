"""The third sibling without a broker: its framing, its messages, its training, and the document that it proves."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingest.record import Headers
from service.configuration.settings import SettingsError
from service.configuration.settings_reading import load
from service.kind import WorkerError
from service.monitoring.metrics import Families, WorkerMetrics
from tests.heart_sounds.framing import BINS, FLOOR, FRAME, HOP, WINDOW, spectrograms
from tests.heart_sounds.messages import SOUND_BYTES, decode_sounds
from tests.heart_sounds.plain import probabilities
from tests.heart_sounds.synthetic import LABELS, synthetic_sounds
from tests.heart_sounds.worker import HeartSettings, Options, heart_kind
from tests.inference.bundles import constant_bundle
from tests.kafka.worker_process import clean_environment
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


def test_a_bundle_that_was_trained_on_other_frames_is_refused(tmp_path: Path) -> None:
    other = constant_bundle(tmp_path / "other", LABELS, FRAME)
    metrics = WorkerMetrics(Families(CollectorRegistry()), "heart", topics=[], reasons=[], labels=[])
    with pytest.raises(WorkerError, match=r"constant@1 was trained on other frames .* heart\.bundle"):
        heart_kind(HeartSettings()).prepare(other, metrics)


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
    listed = {example: int(lines) for _, example, lines, _ in rows() if not lines.startswith("+")}
    proofs = {"__init__.py", "__main__.py", "plain.py", "synthetic.py", Path(__file__).name}
    files = {path.name: path for path in HERE.glob("*.py") if path.name not in proofs}
    assert listed == {name: len(path.read_text().splitlines()) for name, path in files.items()}


def test_the_files_that_the_document_adds_lines_to_exist_and_the_ones_that_it_adds_do_not() -> None:
    for path, _, lines, _ in rows():
        assert (ROOT / path).is_file() == lines.startswith("+"), path
        assert (ROOT / path).parent.is_dir()


def test_the_document_counts_the_lines_that_are_added() -> None:
    counted = Counter(path for path, _, _ in ADDED)
    assert {path: int(count) for path, _, count, _ in rows() if count.startswith("+")} == counted


def test_each_piece_imports_only_what_the_room_that_it_is_for_may() -> None:
    rooms = {example: path.partition("/")[0] for path, example, lines, _ in rows() if not lines.startswith("+")}
    assert set(rooms.values()) == {"ingest", "windowing", "inference", "training", "service"}
    for example, room in rooms.items():
        assert set(imported(HERE / example)) & FORBIDDEN.get(room, set()) == set(), example


def test_the_code_of_the_document_is_the_code_of_the_example() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    code = "\n".join(path.read_text() for path in HERE.glob("*.py"))
    added = ["".join(line for to, _, line in ADDED if to == path) for path in {path for path, _, _ in ADDED}]
    assert len(blocks) == 8
    for block in blocks:
        assert block in code or block in added, block
    assert (HERE / "worker.py").read_text().partition("\n\n")[2] in document


# --- The program with a third worker -----------------------------------------------------------------------------


def test_the_pieces_each_in_its_place_make_a_program_with_a_third_worker_which_learns_in_seconds(
    tmp_path: Path,
) -> None:
    program = assembled(tmp_path / "program")
    assert "heart.dead-letter-topic" in output_of(program, "worker", "heart", "--help")
    output_of(program, "train", "heart", "--output", str(tmp_path / "synthetic-heart"))
    sounds, targets = synthetic_sounds(800, seed=7)
    right = probabilities(tmp_path / "synthetic-heart", sounds).argmax(axis=1) == targets
    for number, label in enumerate(LABELS):
        assert right[targets == number].mean() > 0.9, label


def test_three_more_edits_ship_it_with_the_others(tmp_path: Path) -> None:
    program = assembled(tmp_path / "program")
    worker, settings = program / "service/heart_worker.py", program / "service/configuration/settings.py"
    before, moved, after = re.split(
        r"^(class HeartSettings.*?\n\n\n)", worker.read_text(), flags=re.MULTILINE | re.DOTALL
    )
    worker.write_text(before.replace("KindSettings, ServiceSettings, Topic", "HeartSettings, ServiceSettings") + after)
    add(settings, "class TopicSettings", moved)
    field = "    heart: HeartSettings = Field(default_factory=HeartSettings)"
    add(settings, "\n\nclass WorkerSettings", f"{field}\n")
    together = program / "service/commands/worker_all.py"
    add(together, "from service.run", "from service.heart_worker import heart_kind\n")
    add(together, "])", ", heart_kind(options.heart)")
    document = DOCUMENT.read_text(encoding="utf-8")
    assert f"`{field.strip()}`" in document
    assert "`heart_kind(options.heart)`" in document

    for command in (["worker", "all"], ["worker", "heart"], ["topics"]):
        assert "heart.dead-letter-topic" in output_of(program, *command, "--help")
    output_of(program, "models", STRIDECAST_HEART__BUNDLE="the-others-know-it")


ADDED = [
    (
        "inference/architectures/__init__.py",
        '    "constant"',
        '    "spectrogram-cnn": _of("spectrogram", "SpectrogramCnn"),\n',
    ),
    (
        "service/cli.py",
        '    "worker all"',
        '    "worker heart": ("service.heart_worker", "read heart sounds, publish a label for each"),\n',
    ),
    (
        "service/cli.py",
        '    "train lag-series"',
        '    "train heart": ("service.commands.train_heart", "fit the model to synthetic heart sounds"),\n',
    ),
]
"""Where the document adds a line: the file, what comes behind it, and the line."""


def assembled(program: Path) -> Path:
    """Make a copy of the program with the example's pieces in the places that the document gives them."""
    for room in ("ingest", "windowing", "inference", "service", "training"):
        shutil.copytree(ROOT / room, program / room, ignore=shutil.ignore_patterns("__pycache__", "bundles"))
    places = {example: path for path, example, lines, _ in rows() if not lines.startswith("+")}
    places["synthetic.py"] = "training/synthetic_hearts.py"  # where another has a reader of recordings
    for example, place in places.items():
        code = (HERE / example).read_text()
        for other, its_place in places.items():
            module = its_place.removesuffix(".py").replace("/", ".")
            code = code.replace(f"tests.heart_sounds.{other.removesuffix('.py')} ", f"{module} ")
        (program / place).write_text(code)
    for path, behind, line in ADDED:
        add(program / path, behind, line)
    return program


def add(path: Path, behind: str, code: str) -> None:
    before, found, after = path.read_text().partition(behind)
    assert found, f"{path} has no {behind!r}"
    path.write_text(before + code + found + after)


def output_of(program: Path, *words: str, **variables: str) -> str:
    """Run a command of a copy of the program, which must succeed; return what it prints."""
    environment = {**clean_environment(), **variables, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "service", *words]
    done = subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
