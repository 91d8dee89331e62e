"""From a score table to settings: no weight is read."""

import pytest

from srr_core.budget.table import LayerScores, Score, ScoreTable, solve, solve_divergence
from srr_core.errors import RecipeError
from srr_core.recipe import BudgetSpec, Setting

LAYERS = {
    "m.layers.0.a.q_proj": 5.0,
    "m.layers.0.a.k_proj": 0.1,
    "m.layers.0.a.o_proj": 1.0,
    "m.layers.1.a.o_proj": 9.0,
}


def table(*, ranks: tuple[int, ...] = (0,), groups: tuple[int, ...] = (32, 64)) -> ScoreTable:
    def score(weight: float, bits: int, group: int, rank: int) -> Score:
        cost = weight * 4.0**-bits * (1 + group / 200) * (0.9**rank)
        return Score(
            num_bits=bits, group_size=group, rank=rank, cost=cost, num_bytes=1000 * bits + 32000 // group + 250 * rank
        )

    return ScoreTable(
        weighting="fisher",
        kept_bytes=500,
        source_bytes=4 * 16_000,
        made_from={"source": "x"},
        layers=tuple(
            LayerScores(
                name=name,
                num_weights=8000,
                scores=tuple(score(weight, b, g, r) for r in ranks for b in (2, 3, 4) for g in groups),
            )
            for name, weight in LAYERS.items()
        ),
    )


def test_fused_layers_share_a_setting_and_others_need_not() -> None:
    spec = BudgetSpec(target_bits=3.7, group_sizes=(32, 64))

    fused = solve(table(), spec)
    alone = solve(table(), spec.model_copy(update={"share": "none"}))

    q, k = (f"m.layers.0.a.{name}_proj" for name in "qk")
    assert fused.settings[q] == fused.settings[k]
    assert alone.settings[q] != alone.settings[k]
    assert alone.cost < fused.cost
    for plan in (fused, alone):
        assert plan.used_bytes <= plan.budget_bytes == 3.7 * 32_000 / 8
        assert plan.bits_per_weight == pytest.approx(8 * plan.used_bytes / 32_000)


def test_what_counts_more_gets_more_bits() -> None:
    settings = solve(table(), BudgetSpec(target_bits=3.2, share="none")).settings

    assert settings["m.layers.1.a.o_proj"].num_bits > settings["m.layers.0.a.k_proj"].num_bits


def test_a_target_size_pays_for_the_tensors_that_are_kept() -> None:
    by_bits = solve(table(), BudgetSpec(target_bits=3.2))
    by_size = solve(table(), BudgetSpec(target_size_bytes=int(3.2 * 32_000 / 8) + 500))

    assert by_size == by_bits


def test_a_smaller_target_never_costs_less() -> None:
    costs = [solve(table(), BudgetSpec(target_bits=bits)).cost for bits in (2.6, 3.0, 3.5, 4.0, 5.0)]

    assert costs == sorted(costs, reverse=True)


def test_the_rank_is_one_of_the_choices_where_it_pays() -> None:
    without = solve(table(), BudgetSpec(target_bits=4.6))

    found = solve(table(ranks=(0, 8)), BudgetSpec(target_bits=6.5, ranks=(0, 8)))
    dear = solve(table(ranks=(0, 8)), BudgetSpec(target_bits=4.6, ranks=(0, 8)))

    assert found.rank == 8
    assert dear.rank == 0
    assert dear.settings == without.settings


def test_a_table_serves_a_narrower_choice() -> None:
    plan = solve(table(), BudgetSpec(target_bits=4.0, num_bits=(3,), group_sizes=(32, 64)))

    assert set(plan.settings.values()) <= {Setting(3, 32), Setting(3, 64)}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (BudgetSpec(target_bits=1.5), "below the"),
        (BudgetSpec(target_bits=16.0), "not below the 64000 bytes"),
        (BudgetSpec(target_size_bytes=400), "500 B of tensors that are not compressed"),
        (BudgetSpec(target_bits=3.0, ranks=(4,)), "no setting of the budget at rank 4"),
        (BudgetSpec(target_bits=3.0, num_bits=(8,)), "no setting of the budget at rank 0"),
    ],
)
def test_what_cannot_be_bought_is_refused_with_the_numbers(spec: BudgetSpec, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        solve(table(), spec)


def test_a_layer_that_no_setting_fits_is_named() -> None:
    whole = table()
    odd = whole.layers[0].model_copy(update={"scores": whole.layers[0].scores[:1]})
    damaged = whole.model_copy(update={"layers": (odd, *whole.layers[1:])})

    with pytest.raises(RecipeError, match=r"no setting of the budget fits m.layers.0.a.q_proj, m.layers.0.a.k_proj"):
        solve(damaged, BudgetSpec(target_bits=4.0, num_bits=(3,)))


@pytest.mark.parametrize(("target", "ratio"), [(0.1, 1.0), (0.2, 1.0), (0.2, 2.0), (10.0, 1.0)])
def test_a_target_divergence_takes_the_smallest_settings_within_it(target: float, ratio: float) -> None:
    scores = table()
    spec = BudgetSpec(target_kl=target, group_sizes=(32, 64))

    found = solve_divergence(scores, spec, ratio=ratio)

    assert found.cost * ratio <= target
    if found.used_bytes > sum(min(score.num_bytes for score in layer.scores) for layer in scores.layers):
        less = BudgetSpec(target_size_bytes=found.used_bytes - 1 + scores.kept_bytes, group_sizes=(32, 64))
        assert solve(scores, less).cost * ratio > target


def test_a_divergence_that_no_setting_reaches_is_refused_with_what_is_reached() -> None:
    with pytest.raises(RecipeError, match=r"divergence of 1e-05 nats is below the 0\.0\d+ estimated for the largest"):
        solve_divergence(table(), BudgetSpec(target_kl=1e-5, group_sizes=(32, 64)), ratio=1.0)


@pytest.mark.parametrize("target", [1.5, 16.5])
def test_a_target_out_of_reach_is_refused_with_the_range(target: float) -> None:
    with pytest.raises(RecipeError, match=r"choices reach 2\.50 to 5\.00 bits per weight, 10500 to 20500 bytes"):
        solve(table(), BudgetSpec(target_bits=target))
