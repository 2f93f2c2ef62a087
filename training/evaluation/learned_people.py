"""Who of some files a bundle has learned from, and whom it can be scored on: for a score to say something."""

import shlex
from collections.abc import Iterator, Sequence

from inference.bundle import Bundle
from training.activity_model.recipes import RECIPES
from training.activity_model.splits import split_files
from training.data.held_out import has_fixed_parts
from training.data.recordings import DataFile, natural_order
from training.wording.phrases import some_of

STARTED_FROM = "bundle "  # begins the name, among a bundle's data, of the one that it continued from


def learned_people(bundles: Sequence[Bundle], files: Sequence[DataFile]) -> Iterator[str]:
    """Yield what to say about each bundle that has learned from people of the files, and then whom to score.

    A manifest names the files that a bundle was trained on, and people's parts follow from their names. Where not all
    of these files are here, somebody who is in two of them may have had another part: that is said, too.
    """
    learned: set[str] = set()
    for bundle in bundles:
        trained_on = {data.sha256 for data in bundle.manifest.training.data if not data.name.startswith(STARTED_FROM)}
        known = [file for file in files if file.sha256 in trained_on]
        if not known:
            continue
        recipe = RECIPES["article" if "--recipe article" in bundle.manifest.training.command else "default"]
        parts = split_files(known, recipe)
        for part in parts:
            roles = (("trained", part.train), ("validated", part.validation), ("tested", part.test))
            each = [f"{some_of(_ordered(people))} {role}" for role, people in roles if people]
            yield f"{bundle.title} has learned from people of {part.file.name}: {'; '.join(each)}."
            learned |= part.train | part.validation
        if len(trained_on) > len(known) and not all(map(has_fixed_parts, known)):
            yield f"{bundle.title} has learned from other files, too: who is also in them may have had another part."
    if not learned:
        return
    unseen = {person for file in files for person in file.people} - learned
    if unseen:
        people = _ordered(unseen)
        yield f"To score only those who neither trained nor validated: --people {shlex.join(people)}"
    else:
        yield "Everybody in the data trained or validated: a score on other people says more."


def _ordered(people: set[str]) -> list[str]:
    return sorted(people, key=natural_order)
