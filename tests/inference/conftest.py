import pytest
import torch

from inference.bundle import Bundle
from tests.inference.bundles import constant_bundle, familiar_bundle, har_bundle, undecided_text_bundle

# One thread of PyTorch's: two on a busy machine wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def har(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The HAR network with random weights: frames (80, 3), six labels."""
    return har_bundle(tmp_path_factory.mktemp("bundles") / "har")


@pytest.fixture(scope="session")
def familiar(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, of a bundle with a familiarity output, with logits at which people are of middling familiarity."""
    return familiar_bundle(tmp_path_factory.mktemp("bundles") / "familiar")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Frames of two numbers, three labels; for the fake device."""
    return constant_bundle(tmp_path_factory.mktemp("bundles") / "pairs")


@pytest.fixture(scope="session")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Frames of three ids, three labels; for the fake device."""
    return undecided_text_bundle(tmp_path_factory.mktemp("bundles") / "triples")
