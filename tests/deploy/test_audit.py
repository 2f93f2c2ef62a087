from pathlib import Path

import pytest

from deploy import audit

SOUND = {"name": "numpy", "version": "2.4.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "not found"}
ILL = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": []}]}


def test_packages_without_a_known_vulnerability_are_well() -> None:
    assert audit.verdict({"dependencies": [SOUND]}) == (0, ["1 packages, and no known vulnerability."])


def test_a_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    status, lines = audit.verdict({"dependencies": [SOUND, ILL]})
    assert (status, lines) == (audit.FOUND, ["old 1.0: PYSEC-1, mended in 1.1"])


@pytest.mark.parametrize("dependencies", [[SKIPPED], [SOUND, SKIPPED], []])
def test_what_could_not_be_looked_up_is_no_success(dependencies: list[dict[str, object]]) -> None:
    """Behind a mirror that knows nothing of vulnerabilities, pip-audit skipped all 119 packages, and was content."""
    status, lines = audit.verdict({"dependencies": dependencies})
    assert status == audit.NOT_AUDITED
    assert "have not been audited" in lines[-1]


def test_an_audit_that_did_not_take_place_fails_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".build").mkdir()
    monkeypatch.chdir(tmp_path)  # without constraints.txt, and here without pip-audit
    assert audit.main([]) == audit.NOT_AUDITED
    output = capsys.readouterr().err
    assert output.startswith("Nothing has been audited")
    assert "AUDIT_FLAGS" in output
