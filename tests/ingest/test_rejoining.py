from types import SimpleNamespace

from ingest.rejoining import end_what_was_begun


def test_a_join_that_was_begun_is_waited_for_though_its_reason_is_gone() -> None:
    """A group of two kinds of worker stood still for 45 s: its leader had joined again, and no poll looked after it."""
    coordinator = SimpleNamespace(rejoining=False, need_rejoin=lambda: False)
    end_what_was_begun(coordinator)
    assert not coordinator.need_rejoin()
    coordinator.rejoining = True
    assert coordinator.need_rejoin()


def test_a_join_that_is_needed_begins_as_ever() -> None:
    coordinator = SimpleNamespace(rejoining=False, need_rejoin=lambda: True)
    end_what_was_begun(coordinator)
    assert coordinator.need_rejoin()
