"""The command line: finds the command, reads its settings, runs it, and turns errors into one clear sentence.

Commands are imported when they are called, so that ``--help`` and light commands don't wait for PyTorch.
"""

import importlib
import io
import itertools
import sys
from collections.abc import Sequence
from importlib import metadata

from service.configuration.settings import SOURCES, SettingsError
from service.configuration.settings_reading import load, near_names

COMMANDS = {
    "demo": ("service.commands.demo", "broker, topics, worker and replay together, with a live table"),
    "broker": ("service.commands.broker", "run Apache Kafka on this machine"),
    "topics": ("service.commands.topics", "create the topics that are missing, and say what is there"),
    "worker activity": ("service.commands.worker_activity", "read accelerometer messages, publish activities"),
    "worker text": ("service.commands.worker_text", "read texts, publish a label for each"),
    "worker all": ("service.commands.worker_all", "both workers in one process, sharing one device"),
    "replay": ("service.commands.replay", "send devices' readings, or texts, to Kafka"),
    "backfill": ("service.commands.backfill", "label what a topic already holds, then exit"),
    "train activity": ("service.commands.train_activity", "train or fine-tune the activity model on recordings"),
    "train lag-series": ("service.commands.train_lag_series", "compare an LSTM with an MLP on a lagged series"),
    "train text": ("service.commands.train_text", "train a text model on labelled texts"),
    "classify": ("service.commands.classify", "label texts, or a file of readings, without Kafka"),
    "evaluate": ("service.commands.evaluate", "score a bundle on recordings, or on labelled texts"),
    "bench": ("service.commands.bench", "measure how many devices this machine can handle"),
    "models": ("service.commands.models", "list bundles, what they classify and how well"),
    "dead-letters": ("service.commands.dead_letters", "show the records that could not be read, and why"),
    "doctor": ("service.commands.doctor", "check topics, consumer group and what devices send, and say what is wrong"),
}

# Errors that users can fix: shown as a sentence, without a traceback.
EXPECTED = (
    "BrokerError",
    "ArtifactError",
    "TopicError",
    "IngestError",
    "WorkerError",
    "HttpError",
    "BundleError",
    "DeviceError",
    "CoreError",
    "FramingError",
    "DataError",
    "FitError",
    "ReplayError",
    "ClassifyError",
    "DemoError",
    "ChildWorkerError",
    "BenchError",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for an error, 2 for a wrong command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "²" is no reason to fail
    words = list(sys.argv[1:] if arguments is None else arguments)
    asks = words[-1:] in (["-h"], ["--help"], ["help"])
    group = words[:-1] if asks else words
    whole = [name for name in COMMANDS if name.split()[:-1] == group]  # of half a command, such as `stridecast worker`
    if not group or whole:
        print(_overview())
        if group and not asks:
            print(f"stridecast: {' '.join(group)} is half a command: {', '.join(whole)}", file=sys.stderr)
        return 0 if asks else 2
    if words[0] == "--version":
        print(f"stridecast {metadata.version('stridecast')}")
        return 0
    name, rest = _find(words)
    if name is None:
        print(f"stridecast: {_complaint(words)}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0])
        return int(module.run(load(module.Options, rest, f"stridecast {name}")) or 0)
    except SettingsError as error:
        print(f"stridecast {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not any(kind.__name__ in EXPECTED for kind in type(error).__mro__):
            raise
        print(f"stridecast {name}: {error}", file=sys.stderr)
        return 1


def _find(words: list[str]) -> tuple[str | None, list[str]]:
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in COMMANDS:
            return name, words[count:]
    return None, []


def _complaint(words: list[str]) -> str:
    first, after = words[0].partition("=")[0], range(1, len(words))
    if first.startswith("-"):
        name = next((name for at in after if (name := _find(words[at:])[0])), "COMMAND")
        return f"{first} goes after the command: stridecast {name} {first} ..."
    plain = list(itertools.takewhile(lambda word: not word.startswith("-"), words[:2]))
    group = {name.removeprefix(f"{first} "): name for name in COMMANDS if name.startswith(f"{first} ")}
    if group and len(plain) > 1:
        wrong, near = plain[1], [group[word] for word in near_names(plain[1], group)] or list(group.values())
    else:
        wrong, near = first, near_names(" ".join(plain), COMMANDS) or near_names(first, COMMANDS)
    if not near:
        return f"no such command {wrong!r}; stridecast --help lists all"
    return f"no such command {wrong!r}: did you mean {' or '.join(near)}?"


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{says}" for name, (_, says) in COMMANDS.items()]
    return "\n".join(
        [
            "Stridecast turns Kafka streams into labels: of accelerometer readings, and of texts.",
            "",
            "usage: stridecast COMMAND [--help] [--config FILE] [flags]",
            "",
            *lines,
            "",
            f"{SOURCES} `stridecast COMMAND --help` lists them.",
        ]
    )
