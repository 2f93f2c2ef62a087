"""How the choice of an engine reaches those who run a worker."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference import engine_choice
from inference.bundle import Bundle
from inference.device_choice import choose_device
from inference.engine_choice import Choice, Measured, Memory
from inference.models import Model, load_model
from service.cli import main
from service.configuration.settings import ServiceSettings, SettingsError
from service.configuration.settings_reading import load
from service.serving import engines
from tests.inference.bundles import constant_bundle, har_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return constant_bundle(tmp_path / "bundle")


def test_what_is_measured_is_kept_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert engines.default_folder() == Path("/elsewhere/stridecast/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert engines.default_folder() == Path("/home/somebody/.cache/stridecast/engines")


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert engines.default_folder() is None


def test_one_thread_is_measured_by_its_own_time_and_several_by_the_clock() -> None:
    assert engines.measurement(1).clock is time.process_time
    assert engines.measurement(2).clock is time.perf_counter


@pytest.mark.parametrize(("remembered", "level", "when"), [(True, "DEBUG", "before"), (False, "INFO", "just now")])
def test_the_log_says_what_serves_and_why_nothing_else_does(
    remembered: bool, level: str, when: str, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """What had been measured before stood in the log of each start, in 300 characters."""
    caplog.set_level(logging.DEBUG, logger="service.serving.engines")
    measured = [
        Measured(engine="fast", precision="float32", frames_per_s=12345.6, single_ms=0.25),
        Measured(engine="odd", precision="bfloat16", refusal="it misses its golden answers"),
    ]
    choice = Choice([], measured, remembered=remembered, note="/cache can't be written")
    model = Model(bundle, "float32", None, "cpu", 64, choice, "fast", ("quick at float32: it is gone",))  # type: ignore[arg-type]
    engines.tell(model)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "constant@1 passed its golden check on cpu at float32, by fast"),
        ("WARNING", "constant@1 is not served by quick at float32: it is gone"),
        ("WARNING", "constant@1 is not served by odd at bfloat16: it misses its golden answers"),
        (level, f"engines for constant@1, measured {when}: fast at float32 12,346 frames/s, 0.25 ms for one"),
        ("WARNING", "engines: /cache can't be written"),
    ]


def test_the_first_start_says_that_it_measures_before_it_does(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was silent for ten seconds, and looked as if it hung."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO)
    logged: list[list[str]] = []

    def measure(*_: object) -> Sequence[Measured]:
        logged.append(list(caplog.messages))
        return [Measured(engine="pytorch", precision="float32", frames_per_s=1.0, single_ms=1.0)]

    monkeypatch.setattr(engine_choice, "measure_in_process", measure)
    ways: Any = [SimpleNamespace(engine="pytorch", precision="float32")]
    for _ in range(2):
        engine_choice.choose(bundle, ways, 4, 1, engines.measurement(1))
    assert logged == [["measuring which engine serves constant@1 best, about five seconds; once on this machine"]]
    assert len(caplog.messages) == 1


def test_a_device_without_a_choice_is_logged_as_ever(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engines.tell(Model(bundle, "bfloat16", None, "cuda", 64))  # type: ignore[arg-type]

    assert caplog.messages == ["constant@1 passed its golden check on cuda at bfloat16"]


def test_models_measures_when_it_is_asked_to_and_lists_what_has_been_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = har_bundle(tmp_path / "har").folder
    assert main(["models", "--bundles", str(folder)]) == 0
    assert "measured on" not in capsys.readouterr().out

    assert main(["models", "--measure", "--inference.max-batch", "4", "--bundles", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert ", 1 thread, batches of 4, at " in shown
    assert "winograd" in shown
    assert "pytorch" in shown

    assert main(["models", "--bundles", str(folder)]) == 0
    assert ", 1 thread, batches of 4, at " in capsys.readouterr().out


def test_models_lists_the_latest_measurement_for_the_same_circumstances_and_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six tables had the same caption, five of them of versions that were gone, and one cell held NumPy's own words."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = har_bundle(tmp_path / "har")
    key: Any = engine_choice._key(bundle, [], 256, 1)
    folder = engines.default_folder()
    assert folder is not None

    def keep(at: int, rate: float, refusal: str = "", **differs: Any) -> None:
        measured = [
            Measured(engine="fast", precision="float32", frames_per_s=rate, single_ms=1.0),
            Measured(engine="odd", precision="float32", refusal=refusal or "this processor has no such unit"),
        ]
        path = folder / f"{100 - at}.json"
        assert not engine_choice.save_memory(
            path, Memory(key={**key, **differs}, bundle_digest=bundle.digest, measured=measured)
        )
        os.utime(path, (at, at))

    keep(1, 111, versions={**key["versions"], "numpy": "1.0"})
    keep(2, 222, refusal="ValueError: cannot reshape array of size 0 into shape (0,newaxis)")
    keep(4, 444, versions={**key["versions"], "numpy": "1.0"})
    keep(3, 333, threads=2, versions={**key["versions"], "numpy": "1.0"})
    assert main(["models", "--bundles", str(bundle.folder)]) == 0
    shown = capsys.readouterr().out
    captions = [line.partition("), ")[2] for line in shown.splitlines() if line.startswith("  measured on ")]
    assert set(captions) == {
        "1 thread, batches of 256, at float32",
        "2 threads, batches of 256, at float32, with other versions than are installed (numpy 1.0)",
    }
    assert len(captions) == 2
    assert [rate for rate in ("111", "222", "333", "444") if f" {rate} " in shown] == ["222", "333"]
    assert " fails (ValueError) " in shown
    assert "reshape" not in shown
    assert "this processor has no such unit" in shown


def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError) as caught:
        load(ServiceSettings, ["--inference.engine", "onnx"], "stridecast test")
    message = str(caught.value)
    engines = "'auto', 'winograd', 'amx', 'avx512', 'openvino' or 'pytorch'"
    assert message.startswith(f"inference.engine = 'onnx': input should be {engines}")


def test_the_engine_of_the_settings_serves(tmp_path: Path) -> None:
    settings = load(ServiceSettings, ["--inference.engine", "pytorch"], "stridecast test").inference
    bundle = har_bundle(tmp_path / "har")
    assert load_model(bundle, choose_device("cpu", settings.precision, engine=settings.engine), 2).way == "pytorch"
