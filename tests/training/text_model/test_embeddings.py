"""Ways to train a table of vectors, each of which folds into the one table that is served."""

import pytest
import torch

from training.text_model.embeddings import VARIANTS, Projected, Table, Variant

IDS = torch.tensor([[2, 3, 0], [4, 1, 2]], dtype=torch.int32)


def trained(variant: Variant, rows: torch.Tensor) -> Table | Projected:
    embedding = VARIANTS[variant](rows)
    learned = [parameter for parameter in embedding.parameters() if parameter.requires_grad]
    if learned:
        optimizer = torch.optim.Adam(learned, lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (embedding(IDS) - 1).square().sum().backward()
            optimizer.step()
    return embedding


def first_rows() -> torch.Tensor:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows[0] = 0
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_folded_table_gives_the_same_vectors(variant: Variant) -> None:
    embedding = trained(variant, first_rows())
    table = embedding.fold()
    torch.testing.assert_close(torch.nn.functional.embedding(IDS, table), embedding(IDS))
    assert not table[0].any()
    assert not table.requires_grad


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_word_never_trained_on_is_carried_into_the_table_as_its_row_is(variant: Variant) -> None:
    rows = first_rows()
    embedding = trained(variant, rows)
    if variant in ("rand", "non-static"):
        torch.testing.assert_close(embedding.carry(rows[5:]), rows[5:])
    else:
        torch.testing.assert_close(embedding.carry(rows[5:]), embedding.fold()[5:])


def test_static_vectors_stay_as_they_are_and_the_others_move() -> None:
    rows = first_rows()
    for variant in VARIANTS:
        moved = not torch.equal(trained(variant, rows).fold()[2:5], VARIANTS[variant](rows).fold()[2:5])
        assert moved == (variant != "static")
