"""The kernels are compiled, or loaded from their cache, before the first test is timed."""

import pytest

import windowing


@pytest.fixture(autouse=True, scope="package")
def compiled_kernels() -> None:
    windowing.warm_up()
