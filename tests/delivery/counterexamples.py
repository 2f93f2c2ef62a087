"""For each rule, a schedule that goes wrong without it: kept in a file, found and shrunk by the command here.

python -m tests.delivery.counterexamples    # look for those that are missing, and write the table
"""

import json
import sys
from pathlib import Path

from tests.delivery.describe import describe
from tests.delivery.oracle import violations
from tests.delivery.rules import RULES, Rule
from tests.delivery.schedule import random_schedule
from tests.delivery.shrink import shrink
from tests.delivery.world import Schedule, Setting

FILE = Path(__file__).with_name("counterexamples.json")
PAGE = Path(__file__).parents[2] / "docs" / "delivery-model.md"
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->\n"
ENOUGH = 6  # failing schedules to choose the shortest from
MORE_SEEDS = 4_000  # at most so many are tried once one is found
SEEDS = 100_000


def load() -> dict[str, Schedule]:
    """Return each rule's schedule."""
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {
        name: Schedule(Setting(*setting), tuple((step[0], step[1], step[2], step[3]) for step in steps))
        for name, (setting, steps) in found.items()
    }


def taken_out(name: str) -> frozenset[str]:
    """Return what is taken out to show what a rule is for: it, and the rule that otherwise has the same effect."""
    stand_in = RULES[name].stand_in
    return frozenset([name] if stand_in is None else [name, stand_in])


def goes_wrong(schedule: Schedule, name: str) -> bool:
    """Return whether a schedule shows what a rule is for: something missing or twice, or growth."""
    wrong = violations(schedule, taken_out(name))
    if RULES[name].purpose == "growth":
        return any(sentence.startswith("growth") for sentence in wrong)
    return any(sentence.startswith(("missing", "twice")) for sentence in wrong)


def find(name: str) -> Schedule | None:
    """Search for schedules that go wrong without a rule; return the shortest."""
    found: list[Schedule] = []
    for seed in range(SEEDS):
        schedule = random_schedule(seed)
        if goes_wrong(schedule, name):
            found.append(shrink(schedule, lambda one: goes_wrong(one, name) and not violations(one)))
        if len(found) == ENOUGH or (found and seed > MORE_SEEDS):
            break
    return min(found, key=lambda one: len(one.steps), default=None)


def table() -> str:
    """Return the table of rules, in Markdown."""
    found = load()
    lines = ["| rule | without it | there for | a schedule that shows it |", "|---|---|---|---|"]
    lines += [_row(name, rule, found.get(name)) for name, rule in RULES.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, rule: Rule, schedule: Schedule | None) -> str:
    shown = "none: nothing goes wrong" if schedule is None else describe(schedule, taken_out(name))
    if rule.stand_in is not None and schedule is not None:
        shown = f"nothing goes wrong alone; with *{rule.stand_in}* out as well, {shown}"
    return f"| {name} | {rule.consequence} | {rule.purpose} | {shown} |"


def page_with_table(page: str) -> str:
    """Return the page with its table made anew."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


def main() -> None:
    """Find what is missing."""
    found = load()
    for name, rule in RULES.items():
        if name not in found and (rule.alone or rule.stand_in is not None):
            schedule = find(name)
            sys.stdout.write(f"{name}: {schedule and describe(schedule, taken_out(name))}\n")
            sys.stdout.flush()
            if schedule is not None:
                found[name] = schedule
                FILE.write_text(json.dumps(found, indent=None).replace('], "', '],\n "') + "\n")
    if PAGE.exists():
        PAGE.write_text(page_with_table(PAGE.read_text()))


if __name__ == "__main__":
    main()
