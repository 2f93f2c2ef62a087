"""Where a user's cached files and data go, by the XDG Base Directory Specification."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/stridecast`, by default in `~/.cache`; None for a user who has neither."""
    return _folder("XDG_CACHE_HOME", ".cache")


def data_folder() -> Path | None:
    """Return `$XDG_DATA_HOME/stridecast`, by default in `~/.local/share`; None for a user who has neither."""
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, in_home: str) -> Path | None:
    try:
        return Path(os.environ.get(variable) or Path.home() / in_home) / "stridecast"
    except RuntimeError:  # a container may run as a user that no file names, and without HOME
        return None
