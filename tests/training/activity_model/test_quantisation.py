import numpy as np
import pytest
import torch
from torch import nn

from inference.architectures import build
from inference.manifest import SMALLEST_RANGE, WIDEST_RANGE
from training.activity_model import quantisation
from training.activity_model.quantisation import activation_ranges


class Chain(nn.Module):
    """Hands its inputs to one layer, and a hundredth of them to another behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.dropout(self.first(x) / 100))
        return out


def test_a_range_ends_where_one_in_ten_thousand_of_what_a_layer_takes_is_larger() -> None:
    inputs = np.random.default_rng(1).permutation(np.arange(1, 100_001, dtype=np.float32)).reshape(1000, 100)
    network = Chain()
    found = activation_ranges(network, inputs, ("first", "second"))

    assert found == {"first": 99_990.0, "second": 999.9}
    assert network.training  # as it was, but nothing was dropped
    assert network(torch.ones(1, 1)).shape == (1, 1)


def test_layers_that_are_not_asked_for_are_not_told() -> None:
    assert activation_ranges(Chain(), np.ones((3, 2), np.float32), ("second",)) == {"second": 0.01}
    assert activation_ranges(Chain(), np.ones((3, 2), np.float32), ()) == {}


def test_many_frames_are_looked_at_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "FRAMES", 4)
    monkeypatch.setattr(quantisation, "QUANTILE", 1.0)
    seen: list[float] = []
    network = Chain()
    network.first.register_forward_pre_hook(lambda _, given: seen.extend(given[0].ravel().tolist()))
    activation_ranges(network, np.arange(10, dtype=np.float32)[:, None], ("first",))

    assert seen == [0, 3, 6, 9]


@pytest.mark.parametrize(("value", "end"), [(0.0, SMALLEST_RANGE), (1e-12, SMALLEST_RANGE), (1e9, WIDEST_RANGE)])
def test_a_range_is_one_that_a_manifest_may_hold(value: float, end: float) -> None:
    assert activation_ranges(Chain(), np.full((5, 5), value, np.float32), ("first",)) == {"first": end}


def test_the_activity_network_is_told_three_ranges() -> None:
    torch.manual_seed(0)
    network = build("har-cnn")
    frames = np.random.default_rng(2).normal(0, 1, (50, 80, 3)).astype(np.float32)
    found = activation_ranges(network, frames, ("conv2", "conv3", "conv4"))

    with torch.inference_mode():
        first = network.get_submodule("conv1")(torch.from_numpy(frames).transpose(1, 2)[:, :, None])
    assert found["conv2"] == pytest.approx(float(np.quantile(first.numpy(), 0.9999)), rel=1e-4)
    assert list(found) == ["conv2", "conv3", "conv4"]
