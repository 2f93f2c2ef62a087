"""Where caches and data go, also for users who have no home."""

from pathlib import Path

import pytest

from service.broker.artifacts import ArtifactError, default_cache
from service.broker.data_folder import default_data_dir
from service.broker.errors import DataDirUnusable
from service.host.user_folders import cache_folder, data_folder


def test_folders_lie_where_the_environment_says_or_else_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert cache_folder() == Path("/elsewhere/stridecast")
    assert data_folder() == Path("/home/somebody/.local/share/stridecast")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker ended with Python's traceback, as in a container that runs as any user."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder() is None
    with pytest.raises(ArtifactError, match="XDG_CACHE_HOME"):
        default_cache()
    with pytest.raises(DataDirUnusable, match="--data-dir"):
        default_data_dir()
