import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from inference.lanes import CoreFailedError
from ingest.rejections import Reason
from service.cli import COMMANDS, EXPECTED, main
from service.commands import demo
from service.configuration.settings_reading import POSITIONAL, leaves, load
from tests.inference.bundles import text_bundle
from tests.kafka.worker_process import clean_environment
from tests.test_rooms import ROOT


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in shown


def test_no_command_shows_the_overview_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: stridecast COMMAND" in capsys.readouterr().out


def test_half_a_command_shows_what_it_may_go_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--help"]) == 0
    assert "worker activity" in capsys.readouterr().out
    assert main(["train"]) == 2
    shown = capsys.readouterr()
    assert "train activity" in shown.out
    assert shown.err == "stridecast: train is half a command: train activity, train lag-series, train text\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("worker activty", "no such command 'activty': did you mean worker activity?"),
        ("wroker activity", "no such command 'wroker': did you mean worker activity?"),
        ("worker txt --http.port 0", "no such command 'txt': did you mean worker text?"),
        ("topcs --config mine.toml", "no such command 'topcs': did you mean topics?"),
        ("worker 17", "no such command '17': did you mean worker activity or worker text or worker all?"),
        ("frobnicate", "no such command 'frobnicate'; stridecast --help lists all"),
        ("--config mine.toml worker text", "--config goes after the command: stridecast worker text --config ..."),
        (
            "--kafka.sasl-password=x topics",
            "--kafka.sasl-password goes after the command: stridecast topics --kafka.sasl-password ...",
        ),
        ("--config mine.toml", "--config goes after the command: stridecast COMMAND --config ..."),
    ],
)
def test_an_unknown_command_is_named_with_the_one_that_was_meant(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole overview followed each typing error, and of a flag before the command it said no more."""
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"stridecast: {says}\n"


def test_both_workers_of_one_topic_are_refused_for_each_would_see_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    """The group shared the partitions out: texts of some became dead letters of the other kind, and were committed."""
    assert main(["worker", "all", "--text.input-topic", "accelerometer"]) == 2
    assert "activity.input_topic = text.input_topic = 'accelerometer'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_names_each_setting_that_it_uses_and_no_other(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: stridecast {name} [--config FILE] [flags]")
    assert shown.splitlines()[1] == ""  # dozens of flags in brackets say nothing
    options = importlib.import_module(COMMANDS[name][0]).Options
    settings = dict(leaves(options))
    used = {each: field for each, field in settings.items() if not each.startswith(options.unused)}
    words = {each for each, field in used.items() if POSITIONAL in field.metadata}
    flags = {"--" + each.replace("_", "-") for each in used if each not in words}
    assert set(re.findall(r"^  (--[\w.-]+)", shown, re.MULTILINE)) == flags
    assert all(f"\n  {each.upper()} " in shown for each in words)
    assert all(any(each.startswith(beginning) for each in settings) for beginning in options.unused)
    flat = " ".join(shown.split())
    assert "{{" not in flat
    assert "(default: None)" not in flat
    assert "(default: [])" not in flat


def test_help_is_silent_about_settings_that_a_command_accepts_and_does_not_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`topics --help` listed how windows are cut, and `demo --help` a port that the demo never listens on."""
    with pytest.raises(SystemExit):
        main(["dead-letters", "--help"])
    flags = re.findall(r"^  --(?:activity|text|kafka)\.([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert {flag for flag in flags if not flag.startswith(("ssl-", "sasl-"))} == {
        "bootstrap-servers",
        "security-protocol",
        "dead-letter-topic",
    }
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    shown = capsys.readouterr().out
    assert "inference options:" in shown
    assert "http options:" not in shown
    assert load(demo.Options, ["--http.port", "1"], "test").http.port == 1


def test_dead_letters_reasons_are_named_as_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Help listed NOT_JSON and its like, the names of an enum's members, and the command took only not_json."""
    with pytest.raises(SystemExit):
        main(["dead-letters", "--help"])
    shown = capsys.readouterr().out
    assert all(reason in shown for reason in Reason)
    assert "NOT_JSON" not in shown
    assert main(["dead-letters", "--reason", "not_json", "NOT_JSON"]) == 2
    refusal = capsys.readouterr().err
    assert refusal.startswith("stridecast dead-letters: --reason NOT_JSON: no such reason; there are null_value, ")
    assert all(reason in refusal for reason in Reason)


def test_every_flag_of_every_command_is_described() -> None:
    for module, _ in COMMANDS.values():
        options = importlib.import_module(module).Options
        own = {name: field for name, field in options.model_fields.items() if field.default_factory is None}
        assert {name for name, field in own.items() if not field.description} == set()


def test_a_wrong_setting_ends_with_status_2_and_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "--partitions", "0"]) == 2
    assert capsys.readouterr().err.startswith("stridecast topics: partitions = '0': input should be greater")


def test_a_bundle_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--bundles", "/nowhere"]) == 1
    error = capsys.readouterr().err
    assert "/nowhere" in error
    assert error.count("\n") == 1


def test_models_are_listed_with_what_can_be_copied_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Digest and folder broke in the middle of words at 80 columns."""
    bundle = text_bundle(tmp_path / "a-folder-whose-name-is-so-long-that-no-terminal-has-room-for-it" / "tiny-text")
    assert main(["models", "--bundles", str(bundle.folder)]) == 0
    shown = capsys.readouterr().out
    assert f"  folder  {bundle.folder}\n" in shown
    assert f" {bundle.digest[:12]} " in shown


def test_inference_that_fails_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that failed under `classify` ended in a traceback."""

    def fail(*_: object) -> NoReturn:
        raise CoreFailedError("inference failed: the device is gone")

    monkeypatch.setattr("service.without_kafka.classify.classify_texts", fail)
    assert main(["classify", "a film"]) == 1
    assert capsys.readouterr().err == "stridecast classify: inference failed: the device is gone\n"


def test_what_is_expected_are_the_names_of_exceptions_of_the_program() -> None:
    """They are names, for whoever asks for help waits for no import; one that nothing has is of no use."""
    modules = {
        name: ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("ingest", "windowing", "inference", "training", "service")
        for path in (ROOT / room).rglob("*.py")
        for name in re.findall(r"^class (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for name in EXPECTED:
        assert issubclass(getattr(importlib.import_module(modules[name]), name), Exception)


def test_help_does_not_wait_for_pytorch() -> None:
    script = "import sys; from service.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, env=clean_environment())
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("train activity", "files of recordings"),
        ("evaluate", "files of recordings, or of texts"),
    ],
)
def test_a_required_flag_is_asked_for_by_its_name_without_waiting_for_pytorch(name: str, what: str) -> None:
    """It took four seconds to say `data: field required`."""
    script = f"import sys; from service.cli import main; print(main({name.split()}), 'torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert ended.stderr == f"stridecast {name}: --data is required: {what}\n"
    assert ended.stdout == "2 False\n"


def test_a_worker_without_its_bundle_says_so_before_anything_else() -> None:
    command = [sys.executable, "-m", "service", "worker", "activity", "--activity.bundle", "nope", "--http.port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("stridecast worker activity: no bundle 'nope'")


@pytest.mark.parametrize(
    ("words", "report"),
    [([], "runs/har-cnn-report"), (["--output", "a/b.c"], "a/b.c-report"), (["--report", "mine"], "mine")],
)
def test_the_report_of_a_training_goes_beside_its_bundle(
    words: list[str], report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    monkeypatch.setattr(
        "training.train_activity.train_activity",
        lambda request, output, report, **_: folders.append(report),
    )
    assert main(["train", "activity", "--data", "recordings.txt", *words]) == 0
    assert folders == [Path(report)]


def test_a_terminal_that_lacks_a_character_gets_another() -> None:
    """It ended with a traceback half-way through what it had to say."""
    command = [sys.executable, "-m", "service", "train", "activity", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "(m/s?, gravity included)" in done.stdout
