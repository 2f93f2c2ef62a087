"""The made-up frames of a bundle: always the same, and some of them half familiar."""

import numpy as np
import pytest
import torch
from torch import nn

from inference.served_module import for_serving, reference_answers
from tests.inference.bundles import har_description
from training.activity_model.golden import golden_frames, half_familiar


def test_golden_frames_are_made_up_and_always_the_same() -> None:
    frames = golden_frames()
    assert frames.shape == (8, 80, 3)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, golden_frames())
    assert frames[0, 0].tolist() == pytest.approx([0.0, 9.81, 0.0])


class Calm(nn.Module):
    """Knows what hardly moves: the more a frame varies, the lower all logits."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return (8 * (2.5 - frames.std(dim=1).mean(dim=1, keepdim=True))).expand(-1, 6)


def test_some_golden_frames_are_shaken_until_they_are_half_familiar() -> None:
    description = har_description(tells_strangers=True)
    frames = half_familiar(Calm(), description, golden_frames())
    familiarity = reference_answers(for_serving(Calm(), description), frames)[:, -1]

    assert frames.shape == (4, 80, 3)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(familiarity, 0.5, rtol=0, atol=0.05)
    np.testing.assert_array_equal(frames, frames.round(2))


def test_frames_that_take_a_moderate_shaking_are_taken_for_it() -> None:
    """Of four networks two were refused at int8, for a phone that all but lay still: there it hangs on single steps."""
    swing = np.array([0, 0, 14.4, 14.4, 14.4, 14.4, 14.78, 14.78])[:, None, None]  # from 14.8 on it is strange
    known = np.arange(8)[:, None, None] + swing * np.sin(np.arange(80))[:, None] * np.ones(3)
    frames = half_familiar(Calm(), har_description(tells_strangers=True), known.astype(np.float32))

    np.testing.assert_array_equal(frames.mean(axis=(1, 2)).round(), [2, 3, 4, 5])
