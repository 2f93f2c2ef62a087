"""The schedules that show what goes wrong without a rule: kept in a file, found and shrunk by the command here.

python -m tests.delivery.found            # look for those that are missing, and write the table
"""

import json
import sys
from pathlib import Path

from tests.delivery.oracle import faults
from tests.delivery.rules import RULES, Rule
from tests.delivery.schedule import random_schedule
from tests.delivery.shrink import shrink
from tests.delivery.telling import tell
from tests.delivery.world import Schedule, Setting

FILE = Path(__file__).with_name("schedules.json")
PAGE = Path(__file__).parents[2] / "docs" / "delivery-model.md"
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->\n"
ENOUGH = 6  # failing schedules to choose the shortest from
PATIENCE = 4_000  # seeds, once one is found
SEEDS = 100_000


def load() -> dict[str, Schedule]:
    """Return each rule's schedule."""
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {
        name: Schedule(Setting(*setting), tuple((step[0], step[1], step[2], step[3]) for step in steps))
        for name, (setting, steps) in found.items()
    }


def taken_out(name: str) -> frozenset[str]:
    """Return what is taken out to show a rule: it, and the one that otherwise stands in for it."""
    beside = RULES[name].beside
    return frozenset([name] if beside is None else [name, beside])


def goes_wrong(schedule: Schedule, name: str) -> bool:
    """Tell whether a schedule shows what its rule is for: labels or dead letters, or growth alone."""
    wrong = faults(schedule, taken_out(name))
    if RULES[name].purpose == "growth":
        return any(what.startswith("growth") for what in wrong)
    return any(what.startswith(("missing", "twice")) for what in wrong)


def find(name: str) -> Schedule | None:
    """Search for schedules that show a rule; return the shortest."""
    shown: list[Schedule] = []
    for seed in range(SEEDS):
        schedule = random_schedule(seed)
        if goes_wrong(schedule, name):
            shown.append(shrink(schedule, lambda one: goes_wrong(one, name) and not faults(one)))
        if len(shown) == ENOUGH or (shown and seed > PATIENCE):
            break
    return min(shown, key=lambda one: len(one.steps), default=None)


def table() -> str:
    """Return the table of rules, in Markdown."""
    found = load()
    lines = ["| rule | without it | there for | a schedule that shows it |", "|---|---|---|---|"]
    lines += [_row(name, rule, found.get(name)) for name, rule in RULES.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, rule: Rule, schedule: Schedule | None) -> str:
    told = "none: nothing goes wrong" if schedule is None else tell(schedule, taken_out(name))
    if rule.beside is not None and schedule is not None:
        told = f"nothing goes wrong alone; with *{rule.beside}* out as well, {told}"
    return f"| {name} | {rule.wrong} | {rule.purpose} | {told} |"


def page_with_table(page: str) -> str:
    """Return the page with its table made anew."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


def main() -> None:
    """Find what is missing."""
    found = load()
    for name, rule in RULES.items():
        if name not in found and (rule.alone or rule.beside is not None):
            schedule = find(name)
            sys.stdout.write(f"{name}: {schedule and tell(schedule, taken_out(name))}\n")
            sys.stdout.flush()
            if schedule is not None:
                found[name] = schedule
                FILE.write_text(json.dumps(found, indent=None).replace('], "', '],\n "') + "\n")
    if PAGE.exists():
        PAGE.write_text(page_with_table(PAGE.read_text()))


if __name__ == "__main__":
    main()
