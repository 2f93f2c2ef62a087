"""What all training runs share at their ends: output folders and the bundle's description."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from inference.bundle import MANIFEST_NAME, Bundle, load_bundle
from inference.manifest import BundleError, Description
from training.data.files import reason
from training.evaluation.evaluate import Evaluation
from training.fitting.fit_settings import FitError
from training.fitting.scores import Scores
from training.wording.phrases import first_error, some_of

# A manifest's names have 64 characters, of which `.accuracy` and `.macro_f1` take nine.
METRIC_NAME_LENGTH = 55


def create_folders(*folders: Path) -> None:
    """Create the output folders before an hour of work rather than after it; raises `FitError`."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FitError(f"cannot write to {folder}: {reason(error)}") from error


@contextmanager
def new_folders(*folders: Path) -> Iterator[None]:
    """Create the output folders as `create_folders` does; remove those that are new and empty where the body fails."""
    new = {one for folder in folders for one in (folder, *folder.parents) if not one.exists()}
    create_folders(*folders)
    try:
        yield
    except BaseException:
        for folder in sorted(new, key=lambda folder: len(folder.parts), reverse=True):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


@dataclass(frozen=True, slots=True)
class Replaced:
    """The bundle that saving to a folder will replace, by its title and digest prefix.

    `version` and `labels` are known if it can be read.
    """

    name: str
    version: str | None = None
    labels: tuple[str, ...] = ()


def replaced_bundle(folder: Path) -> Replaced | None:
    """Return the bundle that saving to `folder` will replace; None for none.

    Raises `FitError` where the folder holds anything else, which saving would delete.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return None
    except OSError as error:
        raise FitError(f"cannot write to {folder}: {reason(error)}") from error
    if not (folder / MANIFEST_NAME).is_file():
        raise FitError(f"{folder} holds no bundle, and a bundle replaces all that its folder holds: name another")
    try:
        bundle = load_bundle(folder)
    except BundleError:
        return Replaced("one that cannot be read")
    return Replaced(f"{bundle.title} {bundle.digest[:12]}", bundle.manifest.version, bundle.manifest.labels)


def warnings_of_replaced(folder: Path, replaced: Replaced | None, labels: Sequence[str]) -> list[str]:
    """Return what to say of a bundle that another one, with other labels, is about to replace."""
    if replaced is None or set(replaced.labels) in (set(), set(labels)):
        return []
    return [
        f"{folder} holds {replaced.name}, which tells {some_of(replaced.labels)}. The new bundle takes its place and "
        f"tells {some_of(labels)}: a worker that serves this folder will say other labels"
    ]


def next_version(replaced: Replaced | None, start: Bundle | None = None) -> str:
    """Return one more than the version of the start bundle, if that is a number; else "1".

    It is also more than that of the bundle that will be `replaced`: labels name a model by its version, so two networks
    must not share one. What follows the number there, as in "1.2", does not count.
    """
    version = 1
    if start is not None and start.manifest.version.isdecimal():
        version = int(start.manifest.version) + 1
    if replaced is not None and (number := re.match(r"[0-9]+", replaced.version or "")):
        version = max(version, int(number[0]) + 1)
    return str(version)


def closing_line(bundle: Bundle, folder: Path, report: Path, replaced: Replaced | None) -> str:
    """Return a run's last line: the bundle, its folder, the report, and what it `replaced`, if anything."""
    instead = f", in place of {replaced.name}" if replaced else ""
    return f"Bundle {bundle.title} in {folder}{instead}; report in {report}"


def checked_description(make: Callable[[], Description], name: str, version: str) -> Description:
    """Return what `make` builds; raises `FitError` with the reason if it is no valid description."""
    try:
        return make()
    except ValidationError as error:
        if any(found["loc"] in (("name",), ("version",)) for found in error.errors()):
            raise FitError(
                f"no bundle can have the name {name!r} (its folder's) and the version {version!r}: each is small "
                "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64"
            ) from None
        raise FitError(
            f"no bundle can have the name {name!r} (its folder's) and the version {version!r}: {first_error(error)}"
        ) from None


def with_metrics(description: Description, validation: Scores, tests: Sequence[Evaluation]) -> Description:
    """Return the description with the metrics of its validation and tests."""
    metrics = {"validation.accuracy": validation.accuracy, "validation.macro_f1": validation.macro_f1}
    for test in tests:
        dataset = metric_name(test.dataset)
        metrics[f"{dataset}.accuracy"] = test.scores.accuracy
        metrics[f"{dataset}.macro_f1"] = test.scores.macro_f1
    return description.model_copy(update={"metrics": {name: round(v, 4) for name, v in metrics.items()}})


def metric_name(dataset: str) -> str:
    """Return a data set's name as used in a manifest's metrics, such as `wisdm-v1.1-reconstructed`."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", dataset.lower())
    return plain.strip("._-")[:METRIC_NAME_LENGTH] or "data"
