import numpy as np
import pytest
import torch

from training.fitting.soft_targets import Splices, smooth_labels, soft_targets, splice, spliced_targets


def test_of_labels_that_an_example_may_have_the_goal_is_the_likelier_the_more() -> None:
    candidates = torch.tensor([[True, False, False], [False, True, True]])
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]))
    found = soft_targets(logits, torch.tensor([0, 1]), candidates)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.75, 0.25]]))


def test_the_gradient_is_that_of_the_probability_of_any_of_them() -> None:
    candidates = torch.tensor([[False, True, True]])
    logits = torch.tensor([[0.3, -1.0, 0.7]], requires_grad=True)
    target = torch.tensor([0])
    cross_entropy = torch.nn.functional.cross_entropy(logits, soft_targets(logits.detach(), target, candidates))
    likelihood = -logits.softmax(dim=1)[0, 1:].sum().log()
    found, expected = (torch.autograd.grad(loss, logits)[0] for loss in (cross_entropy, likelihood))
    torch.testing.assert_close(found, expected)


def test_labels_are_smoothed_among_themselves_and_ood_samples_not_at_all() -> None:
    soft = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expected = torch.tensor([[0.8, 0.1, 0.1, 0.0], [0.1, 0.45, 0.45, 0.0], [0.0, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(smooth_labels(soft, 0.3), expected)


def test_a_spliced_example_begins_as_another_does_for_its_share_and_goes_on_as_itself() -> None:
    inputs = np.arange(200)[:, None, None] * np.ones((1, 10, 3), np.float32)
    found, splices = splice(inputs, 0.6, np.random.default_rng(5))
    taken = np.round(10 * splices.share).astype(int)
    for row, (other, first) in enumerate(zip(splices.other, taken, strict=True)):
        assert (found[row, :first] == other).all()
        assert (found[row, first:] == row).all()
    assert (taken > 0).mean() == pytest.approx(0.6, abs=0.1)
    assert sorted(set(taken[taken > 0])) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (inputs == np.arange(200)[:, None, None]).all()


def test_what_is_spliced_should_say_both_classes_each_for_as_long_as_it_lasts() -> None:
    candidates = torch.tensor([[True, False, False], [False, True, True], [False, False, True]])
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]))
    splices = Splices(np.array([1, 0, 2]), np.array([0.4, 0.0, 0.5], np.float32))
    found = spliced_targets(logits, torch.tensor([0, 1, 2]), splices, candidates)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.25, 0.15], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]))
