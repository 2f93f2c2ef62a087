"""Each rule of delivery, taken out of the model: what goes wrong, and in which schedule."""

import re
from pathlib import Path

import pytest

from tests.delivery.counterexamples import FILE, PAGE, goes_wrong, load, page_with_table, taken_out
from tests.delivery.oracle import violations
from tests.delivery.rules import RULES
from tests.delivery.schedule import random_schedule

FOUND = load()
SHOWN = [name for name, rule in RULES.items() if rule.alone or rule.stand_in is not None]
NOT_NEEDED = [name for name, rule in RULES.items() if not rule.alone]


@pytest.mark.parametrize("name", SHOWN)
def test_without_this_rule_something_goes_wrong(name: str) -> None:
    assert goes_wrong(FOUND[name], name)


@pytest.mark.parametrize("name", SHOWN)
def test_with_all_rules_the_same_schedule_goes_well(name: str) -> None:
    assert violations(FOUND[name]) == []


@pytest.mark.parametrize("name", [name for name in SHOWN if len(taken_out(name)) == 2])
def test_with_this_rule_alone_taken_out_its_schedule_goes_well(name: str) -> None:
    assert violations(FOUND[name], frozenset([name])) == []


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_no_schedule_needs_this_rule_alone(name: str) -> None:
    wrong = [seed for seed in range(1000) if violations(random_schedule(seed), frozenset([name]))]

    assert wrong == []


def test_the_worker_knows_the_rules_by_the_names_of_the_table() -> None:
    code = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    switches = set(re.findall(r'"([^"]+)" (?:not )?in (?:self\.)?without', code))

    assert switches == set(RULES)


def test_the_page_shows_the_table_that_the_schedules_give() -> None:
    """Made anew by ``python -m tests.delivery.counterexamples``."""
    page = PAGE.read_text()

    assert page_with_table(page) == page


def test_no_schedule_is_kept_for_a_rule_that_is_gone() -> None:
    assert set(FOUND) == set(SHOWN), FILE
