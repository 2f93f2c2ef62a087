import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from service.cli import main
from training.lag_study.lag_report import draw, figures
from training.lag_study.lag_series import (
    CASES,
    MODELS,
    Adam,
    Fitted,
    ModelName,
    Parameters,
    RMSprop,
    fit_all,
    glorot_uniform,
    inputs,
    lstm,
    mlp,
    orthogonal,
    positions,
    split,
    study,
    targets,
)


def weights(model_name: ModelName, seeds: int = 1) -> Parameters:
    networks = [MODELS[model_name].create(torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    return {name: torch.stack([network[name] for network in networks]) for name in networks[0]}


# --- the series ----------------------------------------------------------------------------------


def test_the_series_has_a_hundred_rows_on_a_straight_line() -> None:
    assert len(targets()) == 100
    assert targets()[[0, -1]].tolist() == pytest.approx([6.0, 184.2])
    np.testing.assert_allclose(targets(), 1.8 * positions() - 1.2)


def test_the_lstm_sees_five_steps_and_the_mlp_the_last_of_them() -> None:
    assert inputs(5)[[0, -1]].tolist() == [[0, 1, 2, 3, 4], [99, 100, 101, 102, 103]]
    assert inputs(1)[[0, -1]].tolist() == [[4], [103]]


def test_the_last_twentieth_is_held_out_as_keras_does() -> None:
    train, held_out = split("last", seed=3)
    assert train.tolist() == list(range(95))
    assert held_out.tolist() == [95, 96, 97, 98, 99]


def test_rows_held_out_below_the_top_are_another_draw_for_each_seed() -> None:
    draws = set()
    for seed in range(20):
        train, held_out = split("below", seed)
        assert len(held_out) == 5
        assert held_out.max() < 95
        assert sorted([*train, *held_out]) == list(range(100))
        draws.add(tuple(held_out))
    assert len(draws) == 20


# --- the networks --------------------------------------------------------------------------------


def test_the_networks_have_the_shapes_that_keras_gives_them() -> None:
    assert {name: tuple(tensor.shape[1:]) for name, tensor in weights("lstm").items()} == {
        "lstm.kernel": (1, 32),
        "lstm.recurrent": (8, 32),
        "lstm.bias": (1, 32),
        "dense1.kernel": (8, 2),
        "dense1.bias": (1, 2),
        "dense2.kernel": (2, 1),
        "dense2.bias": (1, 1),
    }
    assert sum(tensor.numel() for tensor in weights("lstm").values()) == 341
    assert sum(tensor.numel() for tensor in weights("mlp").values()) == 37


def test_the_lstm_begins_by_remembering() -> None:
    bias = weights("lstm")["lstm.bias"][0, 0]
    assert bias[8:16].tolist() == [1.0] * 8
    assert float(bias.sum()) == 8


def test_kernels_are_uniform_within_glorots_limit() -> None:
    kernel = glorot_uniform(100, 200, torch.Generator().manual_seed(0))
    limit = (6 / 300) ** 0.5
    assert float(kernel.abs().max()) == pytest.approx(limit, rel=1e-3)
    assert float(kernel.std()) == pytest.approx(limit / 3**0.5, rel=0.02)


def test_the_recurrent_kernel_is_orthogonal() -> None:
    kernel = orthogonal(8, 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(8))


def test_the_lstms_of_two_seeds_at_once_answer_as_pytorchs_own_do_one_by_one() -> None:
    both = weights("lstm", seeds=2)
    x = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(9))
    answers = lstm(both, x)
    for run in range(2):
        own = {name: tensor[run] for name, tensor in both.items()}
        cell = torch.nn.LSTM(1, 8, batch_first=True)
        cell.load_state_dict(
            {
                "weight_ih_l0": own["lstm.kernel"].T,
                "weight_hh_l0": own["lstm.recurrent"].T,
                "bias_ih_l0": own["lstm.bias"][0],
                "bias_hh_l0": torch.zeros(32),
            }
        )
        with torch.no_grad():
            hidden = cell(x[run][..., None])[0][:, -1]
        expected = (hidden @ own["dense1.kernel"] + own["dense1.bias"]) @ own["dense2.kernel"] + own["dense2.bias"]
        torch.testing.assert_close(answers[run], expected.squeeze(1))


def test_the_mlp_can_be_the_series() -> None:
    exact = {name: torch.zeros_like(tensor) for name, tensor in weights("mlp").items()}
    for layer in ("dense1", "dense2", "dense3"):
        exact[f"{layer}.kernel"][0, 0, 0] = 1
    exact["dense1.kernel"][0, 0, 0] = 1.8
    exact["dense3.bias"][0, 0, 0] = -1.2
    answers = mlp(exact, torch.from_numpy(inputs(1)).float()[None])
    np.testing.assert_allclose(answers[0].numpy(), targets(), rtol=1e-6)


def test_whatever_the_mlp_has_learned_its_residuals_lie_on_a_straight_line() -> None:
    for fitted in fit_all("mlp", 3, 2, lambda: None):
        assert np.abs(np.diff(fitted.residuals, 2)).max() < 1e-3


# --- Keras' optimisers ---------------------------------------------------------------------------


def test_adam_moves_as_pytorchs_does_where_epsilon_does_not_matter() -> None:
    ours, theirs = torch.ones(3), torch.ones(3, requires_grad=True)
    adam, reference = Adam([ours]), torch.optim.Adam([theirs])
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        gradient = torch.randn(3, generator=generator)
        adam.step([gradient])
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_rmsprop_adds_epsilon_inside_the_root() -> None:
    weight = torch.zeros(2)
    RMSprop([weight]).step([torch.tensor([2.0, 1e-5])])
    assert weight.tolist() == pytest.approx([-1e-3 / 0.1**0.5, -1e-8 / (1e-11 + 1e-7) ** 0.5])


# --- fitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_name", MODELS)
def test_a_network_is_fitted_as_if_it_were_alone(model_name: ModelName) -> None:
    alone = fit_all(model_name, 3, 1, lambda: None)
    together = [one for one in fit_all(model_name, 3, 3, lambda: None) if one.seed == 0]
    for one, other in zip(alone, together, strict=True):
        assert one.case == other.case
        np.testing.assert_allclose(one.residuals, other.residuals, atol=1e-3)


def test_the_last_rows_residual_is_watched_over_the_last_hundred_epochs() -> None:
    for fitted in fit_all("mlp", 103, 1, lambda: None):
        assert fitted.top.shape == (100,)
        assert fitted.top[-1] == pytest.approx(fitted.residuals[-1], abs=1e-3)


def test_the_same_seeds_give_the_same_residuals() -> None:
    for one, other in zip(fit_all("lstm", 2, 2, lambda: None), fit_all("lstm", 2, 2, lambda: None), strict=True):
        np.testing.assert_array_equal(one.residuals, other.residuals)


def test_residuals_of_standardised_networks_are_in_the_series_own_units() -> None:
    """A linear network that is not fitted yet has the trained rows' mean, as soon as that is where 0 is."""
    for fitted in fit_all("mlp", 0, 2, lambda: None):
        if fitted.case.standardised:
            assert np.delete(fitted.residuals, fitted.held_out).mean() == pytest.approx(0, abs=1e-3)


def test_fitting_lowers_the_residuals_in_every_case() -> None:
    for model_name in MODELS:
        before, after = (fit_all(model_name, epochs, 1, lambda: None) for epochs in (1, 20))
        for one, other in zip(before, after, strict=True):
            assert figures(other).rmse_trained < figures(one).rmse_trained


# --- the report ----------------------------------------------------------------------------------


def made_up(residuals: np.ndarray) -> list[Fitted]:
    top = np.array([-1.0, 0.5, 3.0])
    return [
        Fitted(model_name, case, 0, residuals, split(case.held_out, 0)[1], top)
        for model_name in MODELS
        for case in CASES
    ]


def test_the_figures_tell_trained_rows_from_held_out_ones() -> None:
    residuals = np.zeros(100)
    residuals[[0, 98, 99]] = 3.5, -3.0, -4.0
    found = figures(made_up(residuals)[0])
    assert found.rmse_trained == pytest.approx(3.5 / 95**0.5)
    assert found.rmse_held_out == pytest.approx(5**0.5)
    assert (found.worst, found.beyond, found.top) == (4.0, 2, -4.0)
    assert (found.top_median, found.top_swing) == (0.5, 4.0)


def test_points_beyond_the_edge_are_marked_at_the_edge() -> None:
    residuals = np.zeros(100)
    residuals[0], residuals[[98, 99]] = 50.0, -3.01
    panel = draw(made_up(residuals)).axes[0]
    marks = {
        str(line.get_marker()): np.asarray(line.get_xydata()).tolist()
        for line in panel.lines
        if line.get_marker() in ("^", "v")
    }
    assert marks == {"^": [[6.0, 3.0]], "v": [[pytest.approx(182.4), -3.0], [pytest.approx(184.2), -3.0]]}
    assert panel.texts[0].get_text() == "worst 50.00; 3 of 100 beyond ±3"
    assert panel.get_ylim() == (-3, 3)


def test_the_range_never_trained_on_is_shaded_where_there_is_one() -> None:
    panels = draw(made_up(np.zeros(100))).axes
    shaded = [[patch.get_label() for patch in panel.patches] for panel in panels]
    assert shaded == [["never trained on"], [], ["never trained on"], []] * 2
    shade = panels[0].patches[0].get_extents().transformed(panels[0].transData.inverted())
    assert shade.x0 == pytest.approx((targets()[94] + targets()[95]) / 2)


def test_the_progress_goes_on_by_itself_where_nobody_looks() -> None:
    assert len(study(1, 2, Console(quiet=True))) == 2 * 4 * 2


def test_the_command_leaves_figures_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "lag"
    assert main(["train", "lag-series", "--epochs", "2", "--seeds", "2", "--report", str(report)]) == 0
    content = json.loads((report / "metrics.json").read_text())
    assert content["command"] == "stridecast train lag-series --epochs 2 --seeds 2"
    assert len(content["networks"]) == 16
    assert [len(network["residuals"]) for network in content["networks"]] == [100] * 16
    text = (report / "report.md").read_text()
    assert text.count("| LSTM |") == 4
    assert text.count("| linear MLP |") == 4
    assert (report / "residuals.png").read_bytes().startswith(b"\x89PNG")
    assert "Report in" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", "lag-series", "--report", str(tmp_path / "file" / "report")]) == 1
    assert capsys.readouterr().err.startswith("stridecast train lag-series: cannot write to")
