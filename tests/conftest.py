"""What every suite needs before its own modules are imported."""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

COUNTED = pytest.StashKey[list[str]]()

# A machine with a GPU may have only what the tests of inference need, and no Kafka client.
with warnings.catch_warnings(), contextlib.suppress(ModuleNotFoundError):
    # kafka-python 3 reads its schemas by functions that Python 3.11 and 3.12 call deprecated: not ours to mend.
    warnings.filterwarnings("ignore", message="(read|open)_text is deprecated", category=DeprecationWarning)
    import kafka  # noqa: F401

if version := os.environ.get("TEST_KAFKA"):
    from tests.other_kafka import use_kafka

    use_kafka(version)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long fault runs out unless ``-m`` names them, and run what waits for Kafka first.

    Its few files take half of the suite's time: begun last, one of them keeps the others' processes waiting.
    """
    if "chaos" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("chaos")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    items.sort(key=lambda item: Path(__file__).parent / "kafka" not in item.path.parents)


@pytest.fixture(scope="session")
def recordings_folder() -> Path:
    """The recorded data sets; skips, saying where it looked, if they are not there."""
    default = Path(__file__).parents[1] / "../shared/data"
    folder = Path(os.environ.get("DATA_SETS", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data sets at {folder}: set DATA_SETS to the folder that holds them")
    return folder


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line of what was counted at once, and again in the table at the end."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def add(line: str) -> None:
        shown = f"{request.node.name}: {line}"
        request.config.stash.setdefault(COUNTED, []).append(shown)
        if terminal is None:  # in a process of xdist's
            print(shown)
        else:
            terminal.write_line(shown)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was counted."""
    if counted := config.stash.get(COUNTED, []):
        terminalreporter.section("what was counted")
        for line in counted:
            terminalreporter.write_line(line)
