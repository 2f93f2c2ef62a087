"""Which people of a data file are held out, to validate or to test: by fixed lists or by a hash of the name."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from training.recordings import DataFile


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Who of a data set is learned nothing from. Nothing is chosen by those who test."""

    test: Collection[str]
    validation: Collection[str]


# By the kind of the file, or a CSV's data set: public sets whose people were parted before there was a rule by name. A
# set has these people under this name alone; an extract of another name is parted like anybody's file.
HELD_OUT: Mapping[str, HeldOut] = {
    # The literature's test people; to validate, people who show all six activities.
    "wisdm": HeldOut(test=tuple(str(user) for user in range(29, 37)), validation=("7", "12", "20", "27")),
    "motionsense": HeldOut(test=("20", "21", "22", "23", "24"), validation=("9", "19")),
    # Whom the shipped model never saw must stay unseen by what goes on from it.
    "difronzo_pocket": HeldOut(test=("df_d",), validation=("df_b",)),
    "hugadb_thigh": HeldOut(test=("h05", "h10", "h15"), validation=("h02", "h12")),
    "mobifall_v2": HeldOut(test=("mf07",), validation=("mf03",)),
    "sisfall": HeldOut(
        test=("SA05", "SA10", "SA15", "SA20", "SE02", "SE07", "SE12"), validation=("SA02", "SA12", "SA22", "SE09")
    ),
    "umafall": HeldOut(test=("u05", "u10", "u16"), validation=("u02", "u12")),
}
TEST_BELOW = 0.2
VALIDATION_BELOW = 0.3
# People are numbered more often than not: of 1,500 such keys one with which about as many of 1 to 40, or 01 to 40, fall
# into each part as should. Another key parts everybody anew.
HASH_KEY = "stridecast 169 "


def held_out_people(file: DataFile, files: Sequence[DataFile] = ()) -> HeldOut:
    """Say who of a file of recordings is held out: those of `HELD_OUT`, or by the names of its people.

    Who is in two of the `files` by one name is one person, and has one part in both. So people of a public set have
    the part that they have there, and files that share others are parted together, for of few it depends on who there
    is. None of this is so of a file whose people `has_numbered_people`.
    """
    if has_numbered_people(file):
        return HELD_OUT[file.kind]
    named = [file, *(other for other in files if not has_numbered_people(other))]
    public = [(other.people, part) for other in named if (part := _public_split(other)) is not None]
    test = [person for _, part in public for person in part.test]
    validation = [person for _, part in public for person in part.validation if person not in test]
    settled = set(test).union(validation, *(people for people, _ in public))
    rest = split_by_name(_connected_people(file.people - settled, [other.people - settled for other in named]))
    return HeldOut(test=(*test, *rest.test), validation=(*validation, *rest.validation))


def has_numbered_people(file: DataFile) -> bool:
    """Whether a file's people are numbers of its own, which say nothing of people who are called so in other files."""
    return file.kind in ("wisdm", "motionsense")


def _public_split(file: DataFile) -> HeldOut | None:
    """Who of a public set of CSV is held out; None for other files, and for one that only has a public set's name."""
    named = HELD_OUT.get(file.dataset) if file.kind == "csv" else None
    return named if named is not None and file.people & {*named.test, *named.validation} else None


def split_by_name(people: Collection[str]) -> HeldOut:
    """Part people by the hashes of their names alone, in [0, 1): the lowest fifth tests, the next tenth validates.

    Once each part is somebody's by name, nobody's part changes, whoever comes. Of few people a part may be nobody's; by
    rank of hash then of three or more the lowest tests, the next after those who test validates, and the highest
    trains; of two the lower one validates, and one alone trains. While that lasts, parts may change as people come. Of
    two or more, whoever trains will only ever test if the names of all of them said so. If one person comes at a time,
    nobody goes straight from training to test, or back; if two or more come at once, somebody who tested may train.
    """
    ranked = sorted(people, key=lambda name: (name_hash(name), name))
    below = [sum(name_hash(name) < bound for name in ranked) for bound in (TEST_BELOW, VALIDATION_BELOW)]
    tests = min(max(below[0], 1), len(ranked) - 2) if len(ranked) > 2 else 0
    validates = min(max(below[1] - tests, 1), len(ranked) - 1 - tests) if len(ranked) > 1 else 0
    return HeldOut(test=tuple(ranked[:tests]), validation=tuple(ranked[tests : tests + validates]))


def name_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, and is nobody's choice."""
    return int.from_bytes(hashlib.sha256(f"{HASH_KEY}{name}".encode()).digest()[:6]) / 2**48


def _connected_people(people: set[str], files: Sequence[set[str]]) -> set[str]:
    """All people of the files that share somebody with `people`, or with a file that does."""
    while joined := [others for others in files if others & people and not others <= people]:
        people = people.union(*joined)
    return people
