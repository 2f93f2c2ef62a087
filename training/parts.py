"""Who learns, who validates and who tests, of all files together; by whose names: `training.recipes`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from training.files import DataError
from training.recipes import Recipe, are_numbers, held_out
from training.recordings import DataFile, Labels, Recording


@dataclass(frozen=True, slots=True)
class People:
    """The recordings of each part; the test people's by file, for each data set is scored by itself.

    All were read by the same `labels`.
    """

    labels: Labels
    train: list[Recording]
    validation: list[Recording]
    test: list[tuple[DataFile, list[Recording]]]


@dataclass(frozen=True, slots=True)
class Part:
    """Who of a file trains, validates and tests, by name."""

    file: DataFile
    train: set[str]
    validation: set[str]
    test: set[str]


def parts_of(files: Sequence[DataFile], recipe: Recipe) -> list[Part]:
    """Part the people of each file as `held_out` says, those of kept windows last.

    Windows that a worker kept were chosen for being doubtful: to validate or to test by them would make a model less
    sure, or look worse, than it is. They only train, without those of people who test or validate by recordings.
    """
    ordinary = [file for file in files if file.kind != "kept"]
    parts, unlearned = [], set()
    for file in ordinary:
        people = held_out(file, ordinary)
        test, validation = set(people.test), set() if recipe.validation_share else set(people.validation)
        if not are_numbers(file):
            unlearned |= test | validation
        parts.append(Part(file, file.people - test - validation, file.people & validation, file.people & test))
    return parts + [Part(file, file.people - unlearned, set(), set()) for file in files if file.kind == "kept"]


def split(files: Sequence[DataFile], recipe: Recipe) -> People:
    """The recordings of each part as `parts_of` has it; raises `DataError` where nobody would validate."""
    parts = People(files[0].labels, [], [], [])
    names = ", ".join(file.dataset for file in files)
    if all(file.kind == "kept" for file in files):
        raise DataError(
            f"{names}: windows that a worker kept were chosen for being doubtful, so they only train: add ordinary "
            "recordings, of somebody who validates and of others who test"
        )
    for part in parts_of(files, recipe):
        if part.file.kind != "kept":
            parts.test.append((part.file, recordings_of(part.file, part.test)))
        parts.validation.extend(recordings_of(part.file, part.validation))
        parts.train.extend(recordings_of(part.file, part.train))
    if not recipe.validation_share and not (parts.train and parts.validation):
        raise DataError(
            f"{names}: it takes two people to train, one of whom validates, and a third to test; the column person "
            "tells them apart"
        )
    return parts


def recordings_of(file: DataFile, people: Collection[str]) -> list[Recording]:
    """A file's recordings of some people, in its order."""
    return [recording for recording in file.recordings if recording.person in people]
