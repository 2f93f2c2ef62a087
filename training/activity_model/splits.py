"""Splits of all data files together into training, validation and test people (see `training.data.held_out`)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from training.activity_model.recipes import Recipe
from training.data.files import DataError
from training.data.held_out import has_numbered_people, held_out_people
from training.data.recordings import DataFile, Labels, Recording


@dataclass(frozen=True, slots=True)
class RecordingSplit:
    """The recordings to train on, validate and test; the test ones by file, for each data set is scored by itself.

    All were read with the same `labels`.
    """

    labels: Labels
    train: list[Recording]
    validation: list[Recording]
    test: list[tuple[DataFile, list[Recording]]]


@dataclass(frozen=True, slots=True)
class FileSplit:
    """The names of a file's training, validation and test people."""

    file: DataFile
    train: set[str]
    validation: set[str]
    test: set[str]


def split_files(files: Sequence[DataFile], recipe: Recipe) -> list[FileSplit]:
    """Split the people of each file as `held_out_people` decides; files of kept windows come last.

    Windows that a worker kept were chosen for being doubtful. As validation or test data they would make a model less
    confident, or look worse, than it is. So they only train, without people who are held out in ordinary recordings.
    """
    ordinary = [file for file in files if file.kind != "kept"]
    parts, unlearned = [], set()
    for file in ordinary:
        people = held_out_people(file, ordinary)
        test, validation = set(people.test), set() if recipe.validation_share else set(people.validation)
        if not has_numbered_people(file):
            unlearned |= test | validation
        parts.append(FileSplit(file, file.people - test - validation, file.people & validation, file.people & test))
    return parts + [FileSplit(file, file.people - unlearned, set(), set()) for file in files if file.kind == "kept"]


def split_recordings(files: Sequence[DataFile], recipe: Recipe) -> RecordingSplit:
    """Return the recordings of each role, by `split_files`; raises `DataError` if nobody is left for validation."""
    splits = RecordingSplit(files[0].labels, [], [], [])
    names = ", ".join(file.dataset for file in files)
    if all(file.kind == "kept" for file in files):
        raise DataError(
            f"{names}: windows that a worker kept were chosen for being doubtful, so they only train: add ordinary "
            "recordings, of somebody who validates and of others who test"
        )
    for part in split_files(files, recipe):
        if part.file.kind != "kept":
            splits.test.append((part.file, recordings_of_people(part.file, part.test)))
        splits.validation.extend(recordings_of_people(part.file, part.validation))
        splits.train.extend(recordings_of_people(part.file, part.train))
    if not recipe.validation_share and not (splits.train and splits.validation):
        raise DataError(
            f"{names}: it takes two people to train, one of whom validates, and a third to test; the column person "
            "tells them apart"
        )
    return splits


def recordings_of_people(file: DataFile, people: Collection[str]) -> list[Recording]:
    """Return a file's recordings of some people, in the file's order."""
    return [recording for recording in file.recordings if recording.person in people]
