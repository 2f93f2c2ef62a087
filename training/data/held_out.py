"""Which people of a data file are held out for validation and test: by fixed lists, or by a hash of the name."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from training.data.recordings import DataFile


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The people of a data set that are not trained on. Nothing is chosen by the scores of the test people."""

    test: Collection[str]
    validation: Collection[str]


# Public sets that were split before there was a rule by name, by the kind of the file or a CSV's data set. The list
# holds only under this name; an extract with another name is split like any file.
HELD_OUT: Mapping[str, HeldOut] = {
    # The literature's test people; for validation, people who show all six activities.
    "wisdm": HeldOut(test=tuple(str(user) for user in range(29, 37)), validation=("7", "12", "20", "27")),
    "motionsense": HeldOut(test=("20", "21", "22", "23", "24"), validation=("9", "19")),
    # Held out from the shipped model, so held out from what is fine-tuned from it, too.
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
FEWEST_PEOPLE = 3  # of a file, for each part to have one
# People are numbered more often than not: of 1,500 such keys, this one puts close to the intended shares of 1 to 40,
# and of 01 to 40, into each role. Another key splits everybody anew.
HASH_KEY = "stridecast 169 "


def held_out_people(file: DataFile, files: Sequence[DataFile] = ()) -> HeldOut:
    """Return who of a file of recordings is held out: those of `HELD_OUT`, or by the hash of their names.

    A name that occurs in two of the `files` is one person, with one role in both. So people of a public set keep their
    role there, and files that share other people are split together: with few people, the split depends on who is
    present. None of this applies to files whose people are numbers (`has_numbered_people`).
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
    """Return whether a file's people are numbers of its own, unrelated to the same names in other files."""
    return file.kind in ("wisdm", "motionsense")


def has_fixed_parts(file: DataFile) -> bool:
    """Return whether a public list alone decides who of a file is held out, whatever other files there are."""
    return has_numbered_people(file) or _public_split(file) is not None


def _public_split(file: DataFile) -> HeldOut | None:
    """Return who of a public CSV set is held out; None for other files, also those that only share its name."""
    named = HELD_OUT.get(file.dataset) if file.kind == "csv" else None
    return named if named is not None and file.people & {*named.test, *named.validation} else None


def split_by_name(people: Collection[str]) -> HeldOut:
    """Split people by the hashes of their names, in [0, 1): the lowest fifth is test, the next tenth validation.

    Once each role is filled by name, nobody's role ever changes. With few people a role may be empty. Then the rank of
    the hash decides: of three or more people the lowest is test, the next after the test people validation, and the
    highest trains; of two the lower is validation; one alone trains. Until each role is filled by name, roles may
    change as people are added. With two or more people, somebody who trained becomes a test person only if all their
    names hash to test. If people are added one at a time, nobody moves directly between training and test; if two or
    more are added at once, a former test person may train.
    """
    ranked = sorted(people, key=lambda name: (name_hash(name), name))
    below = [sum(name_hash(name) < bound for name in ranked) for bound in (TEST_BELOW, VALIDATION_BELOW)]
    tests = min(max(below[0], 1), len(ranked) - 2) if len(ranked) > 2 else 0
    validates = min(max(below[1] - tests, 1), len(ranked) - 1 - tests) if len(ranked) > 1 else 0
    return HeldOut(test=tuple(ranked[:tests]), validation=tuple(ranked[tests : tests + validates]))


def name_hash(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(f"{HASH_KEY}{name}".encode()).digest()[:6]) / 2**48


def _connected_people(people: set[str], files: Sequence[set[str]]) -> set[str]:
    """Return all people of the files that share somebody with `people`, directly or through other files."""
    while joined := [others for others in files if others & people and not others <= people]:
        people = people.union(*joined)
    return people
