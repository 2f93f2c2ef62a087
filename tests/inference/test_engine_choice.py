"""How the fastest way is found among those that reproduce the golden answers, and how it is remembered."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import engine_choice
from inference.bundle import Bundle
from inference.devices import DeviceError, Engine
from inference.engine_choice import Choice, Measurement, choose, measure, memories
from inference.manifest import GoldenError, Precision
from inference.models import load_model
from tests.inference.bundles import constant_bundle
from tests.inference.fakes import Clock


class TimedEngine:
    """Answers a third for each label, which is golden for a constant bundle, or `answer`, and takes its time."""

    def __init__(self, shape: tuple[int, ...], wait: Callable[[int], None], answer: float) -> None:
        self._staged = np.zeros(shape, np.float32)
        self._wait = wait
        self._answer = answer
        self._frames = 0

    def staging(self, slot: int) -> NDArray[Any]:
        return self._staged

    def launch(self, slot: int, frames: int) -> None:
        self._frames = frames

    def collect(self, slot: int) -> NDArray[np.float32]:
        self._wait(self._frames)
        return np.full((self._frames, 3), self._answer, np.float32)


@dataclasses.dataclass
class TimedWay:
    """A way whose batches take `ms` and `ms_a_frame` by the test's clock; nothing of it is fast or slow itself."""

    engine: str
    precision: Precision
    clock: Clock
    ms: float = 0.0
    ms_a_frame: float = 1.0
    answer: float = 1 / 3
    error: Exception | None = None
    loads: int = 0
    batches: list[int] = dataclasses.field(default_factory=list)
    name = "cpu"

    @property
    def precisions(self) -> Sequence[Precision]:
        return (self.precision,)

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        self.loads += 1
        if self.error is not None:
            raise self.error
        return TimedEngine((max_batch, *bundle.manifest.input.shape), self._wait, self.answer)

    def _wait(self, frames: int) -> None:
        self.batches.append(frames)
        self.clock.now += (self.ms + self.ms_a_frame * frames) / 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


def names(found: Choice) -> list[str]:
    return [f"{way.engine} {way.precision}" for way in found.ways]


def three(clock: Clock) -> list[TimedWay]:
    return [
        TimedWay("slow", "float32", clock, ms_a_frame=3.0),
        TimedWay("fast", "float32", clock, ms_a_frame=1.0),
        TimedWay("plain", "float32", clock, ms_a_frame=2.0),
    ]


# -- what is measured, and what is made of it


def test_the_fastest_in_full_batches_comes_first(pairs: Bundle, clock: Clock) -> None:
    found = choose(pairs, three(clock), 8, 1, Measurement(clock))

    assert names(found) == ["fast float32", "plain float32", "slow float32"]
    assert [round(each.frames_per_s) for each in found.measured] == [333, 1000, 500]
    assert [round(each.single_ms, 6) for each in found.measured] == [3.0, 1.0, 2.0]
    assert not found.remembered


def test_a_single_frame_is_measured_beside_a_full_batch(pairs: Bundle, clock: Clock) -> None:
    (measured,) = measure(pairs, [TimedWay("big", "float32", clock, ms=9.0, ms_a_frame=1.0)], 90, clock)

    assert (round(measured.frames_per_s), round(measured.single_ms, 6)) == (909, 10.0)


@pytest.mark.parametrize(("ms", "first"), [(0.95, "exact float32"), (0.85, "coarse bfloat16")])
def test_a_lower_precision_must_gain_a_tenth(pairs: Bundle, clock: Clock, ms: float, first: str) -> None:
    ways = [TimedWay("exact", "float32", clock), TimedWay("coarse", "bfloat16", clock, ms_a_frame=ms)]

    assert names(choose(pairs, ways, 8, 1, Measurement(clock)))[0] == first


def test_a_measurement_ends_after_about_a_second_and_measures_each_way_thrice_at_least(
    pairs: Bundle, clock: Clock
) -> None:
    quick = TimedWay("quick", "float32", clock, ms_a_frame=1.0)
    began = clock.now
    measure(pairs, [quick, quick], 8, clock)
    assert 1.0 <= clock.now - began <= 1.1

    slow = TimedWay("slow", "float32", clock, ms=2000.0)
    measure(pairs, [slow], 8, clock)
    assert slow.batches == [1, 8, 1, 8, 1, 8, 1]  # the golden frame, then three rounds


def test_one_quick_turn_counts_though_others_were_disturbed(pairs: Bundle, clock: Clock) -> None:
    ways = three(clock)
    turns = iter([5.0, 5.0, 1.0] + [5.0] * 10_000)
    vars(ways[1])["_wait"] = lambda frames: setattr(clock, "now", clock.now + frames * next(turns) / 1000)

    assert choose(pairs, ways, 8, 1, Measurement(clock)).ways[0] is ways[2]
    turns = iter([5.0, 0.5] + [5.0] * 10_000)  # its golden frame, then a full batch that nothing disturbs
    assert choose(pairs, ways, 8, 1, Measurement(clock)).ways[0] is ways[1]


@pytest.mark.parametrize("wrong", [0.4, float("nan")])
def test_a_way_that_misses_the_golden_answers_is_refused_however_fast(
    pairs: Bundle, clock: Clock, wrong: float
) -> None:
    ways = three(clock)
    ways[1].answer = wrong
    found = choose(pairs, ways, 8, 1, Measurement(clock))

    assert names(found) == ["plain float32", "slow float32"]
    assert found.measured[1].refusal.startswith(f"{pairs.folder}: at float32 the model misses its golden probabilities")
    assert found.measured[1].frames_per_s == 0


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (DeviceError("it is not installed"), "it is not installed"),
        (OSError("libfast.so: cannot open"), "OSError: libfast.so: cannot open"),
    ],
)
def test_a_way_that_cannot_be_loaded_is_refused_whatever_it_raises(
    pairs: Bundle, clock: Clock, error: Exception, refusal: str
) -> None:
    ways = three(clock)
    ways[1].error = error
    found = choose(pairs, ways, 8, 1, Measurement(clock))

    assert names(found) == ["plain float32", "slow float32"]
    assert found.measured[1].refusal == refusal


def test_the_last_way_is_the_last_resort_even_if_it_was_refused(pairs: Bundle, clock: Clock) -> None:
    ways = three(clock)
    for way in ways:
        way.answer = 0.4
    found = choose(pairs, ways, 8, 1, Measurement(clock))

    assert names(found) == ["plain float32"]


# -- what is remembered


def test_what_was_measured_is_remembered_by_the_next_process(pairs: Bundle, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "engines"
    first = choose(pairs, three(clock), 8, 1, Measurement(clock, folder))
    ways = three(clock)
    second = choose(pairs, ways, 8, 1, Measurement(clock, folder))

    assert (first.remembered, second.remembered) == (False, True)
    assert names(second) == names(first)
    assert list(second.measured) == list(first.measured)
    assert [way.loads for way in ways] == [0, 0, 0]
    assert [memory.measured for memory in memories(pairs, folder)] == [list(first.measured)]


def test_without_a_folder_a_process_remembers_for_itself(pairs: Bundle, clock: Clock) -> None:
    """A bundle that is swapped in while the old one serves must not disturb it by measurements."""
    measurement = Measurement(clock)
    choose(pairs, three(clock), 8, 1, measurement)
    ways = three(clock)

    assert choose(pairs, ways, 8, 1, measurement).remembered
    assert [way.loads for way in ways] == [0, 0, 0]


def test_measuring_anew_reads_nothing_and_replaces_what_was_remembered(
    pairs: Bundle, clock: Clock, tmp_path: Path
) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    ways = three(clock)
    ways[0].ms_a_frame = 0.1
    assert names(choose(pairs, ways, 8, 1, Measurement(clock, tmp_path, anew=True)))[0] == "slow float32"
    assert names(choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path)))[0] == "slow float32"


@pytest.mark.parametrize("change", ["batch", "threads", "ways", "cpu", "version", "architecture"])
def test_what_was_measured_under_other_circumstances_is_not_used(
    pairs: Bundle, clock: Clock, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    bundle, ways, max_batch, threads = pairs, three(clock), 8, 1
    match change:
        case "batch":
            max_batch = 16
        case "threads":
            threads = 2
        case "ways":
            ways = ways[1:]
        case "cpu":
            monkeypatch.setattr(engine_choice, "cpu_title", lambda: "another processor")
        case "version":
            monkeypatch.setattr(engine_choice, "_version", lambda package: f"the next {package}")
        case _:
            bundle = constant_bundle(tmp_path / "bundle", shape=(4,))

    assert not choose(bundle, ways, max_batch, threads, Measurement(clock, tmp_path)).remembered
    assert all(way.loads == 1 for way in ways)


def test_arm_processors_are_told_apart_although_linux_has_no_names_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them were "aarch64": what was measured on one held for the next one with the same folder."""
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    monkeypatch.setattr(engine_choice, "CPU_INFO", str(cpu_info))
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "neoverse-v1")
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {"neon": True, "sve": True})

    assert engine_choice.cpu_title.__wrapped__() == "neoverse-v1 (SVE)"


def test_another_bundle_of_the_architecture_needs_no_measurement_of_its_own(
    pairs: Bundle, clock: Clock, tmp_path: Path
) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    other = constant_bundle(tmp_path / "other", labels=("x", "y", "z"))

    assert other.digest != pairs.digest
    assert choose(other, three(clock), 8, 1, Measurement(clock, tmp_path)).remembered


def test_what_was_refused_for_one_bundle_is_tried_again_for_another(
    pairs: Bundle, clock: Clock, tmp_path: Path
) -> None:
    ways = three(clock)
    ways[1].answer = 0.4
    choose(pairs, ways, 8, 1, Measurement(clock, tmp_path))
    assert choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path)).remembered

    other = constant_bundle(tmp_path / "other", labels=("x", "y", "z"))
    found = choose(other, three(clock), 8, 1, Measurement(clock, tmp_path))
    assert not found.remembered
    assert names(found)[0] == "fast float32"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": {}}', "\x00" * 100, '{"measured": "' + "9" * 100_000])
def test_a_file_that_cannot_be_read_is_measured_over(pairs: Bundle, clock: Clock, tmp_path: Path, content: str) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    (file,) = tmp_path.glob("*.json")
    good = file.read_text()
    file.write_text(content)

    assert memories(pairs, tmp_path) == []
    assert not choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path)).remembered
    assert json.loads(file.read_text())["key"] == json.loads(good)["key"]


def test_a_file_of_other_circumstances_under_the_right_name_is_not_believed(
    pairs: Bundle, clock: Clock, tmp_path: Path
) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    content["key"]["cpu"] = "another processor"
    file.write_text(json.dumps(content))

    assert not choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path)).remembered


@pytest.mark.parametrize("engines", [[], ["another"]])
def test_a_file_that_tells_of_other_ways_is_measured_over(
    pairs: Bundle, clock: Clock, tmp_path: Path, engines: list[str]
) -> None:
    choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    content["measured"] = [content["measured"][0] | {"engine": engine} for engine in engines]
    file.write_text(json.dumps(content))

    found = choose(pairs, three(clock), 8, 1, Measurement(clock, tmp_path))
    assert not found.remembered
    assert len(found.measured) == 3


def test_a_folder_that_cannot_be_written_costs_a_measurement_at_each_start_and_says_so(
    pairs: Bundle, clock: Clock, tmp_path: Path
) -> None:
    """Whoever runs the tests may write anywhere: what stands in a folder's place stops everybody."""
    in_the_way = tmp_path / "a file"
    in_the_way.write_text("")
    for _ in range(2):
        found = choose(pairs, three(clock), 8, 1, Measurement(clock, in_the_way / "engines"))
        assert names(found)[0] == "fast float32"
        assert not found.remembered
        assert found.note.endswith("can't be written (Not a directory), so each start measures again")


def test_nothing_half_written_is_left_in_the_folder(pairs: Bundle, clock: Clock, tmp_path: Path) -> None:
    for batch in (8, 16):
        choose(pairs, three(clock), batch, 1, Measurement(clock, tmp_path))

    assert [path.suffix for path in tmp_path.iterdir()] == [".json", ".json"]


# -- loading what was chosen


@dataclasses.dataclass
class ChoosingDevice:
    ways: Sequence[TimedWay]
    name = "cpu"
    precisions: Sequence[Precision] = ("float32",)

    def load(self, *_: object) -> Engine:
        raise AssertionError("its ways are loaded")

    def choose(self, bundle: Bundle, max_batch: int) -> Choice:
        return Choice(self.ways)


def test_a_model_says_which_way_it_took(pairs: Bundle, clock: Clock) -> None:
    ways = [TimedWay("fast", "bfloat16", clock), TimedWay("plain", "float32", clock)]
    model = load_model(pairs, ChoosingDevice(ways), 8)

    assert (model.way, model.precision, model.device, model.passed_over) == ("fast", "bfloat16", "cpu", ())


def test_what_is_remembered_as_the_fastest_is_held_against_the_golden_answers_all_the_same(
    pairs: Bundle, clock: Clock
) -> None:
    ways = [TimedWay("fast", "float32", clock, answer=0.4), TimedWay("plain", "float32", clock)]
    model = load_model(pairs, ChoosingDevice(ways), 8)

    assert model.way == "plain"
    assert len(model.passed_over) == 1
    assert model.passed_over[0].startswith("fast at float32: ")
    assert "misses its golden probabilities" in model.passed_over[0]


def test_a_bundle_that_no_way_reproduces_is_refused_with_the_last_ones_reason(pairs: Bundle, clock: Clock) -> None:
    ways = [
        TimedWay("fast", "float32", clock, error=DeviceError("gone")),
        TimedWay("plain", "float32", clock, answer=0.4),
    ]
    with pytest.raises(GoldenError, match="misses its golden probabilities"):
        load_model(pairs, ChoosingDevice(ways), 8)


@dataclasses.dataclass(frozen=True)
class DeadlyWay:
    """A way that ends the process that loads it, as an instruction does that a processor doesn't have."""

    engine: str = "deadly"
    precision: Precision = "float32"
    name = "cpu"
    precisions: Sequence[Precision] = ("float32",)

    def load(self, *_: object) -> Engine:
        os._exit(4)


def test_a_measurement_that_dies_in_its_process_leaves_the_ways_in_their_order(pairs: Bundle, tmp_path: Path) -> None:
    ways = [DeadlyWay("first"), DeadlyWay("last")]
    found = choose(pairs, ways, 8, 1, Measurement(time.process_time, tmp_path, apart=True))

    assert (found.ways, found.measured) == (ways, ())
    assert "taken unmeasured" in found.note
    assert list(tmp_path.iterdir()) == []


def test_where_no_process_can_be_started_the_ways_stay_in_their_order(
    pairs: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of processes ended the worker at its start."""

    def refuse(_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    ways = [DeadlyWay("first"), DeadlyWay("last")]
    found = choose(pairs, ways, 8, 1, Measurement(time.process_time, tmp_path, apart=True))

    assert (found.ways, found.measured) == (ways, ())
