"""Fixtures of the training room's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small models run fastest, and beside other programs steadily, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recordings_folder() -> Path:
    """The recorded data sets; skips, saying where it looked, if they are not there."""
    default = Path(__file__).parents[2] / "../shared/data"
    folder = Path(os.environ.get("STRIDECAST_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data sets at {folder}: set STRIDECAST_DATA to the folder that holds them")
    return folder
