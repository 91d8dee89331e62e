"""The stages of a run share the whole among them."""

from itertools import pairwise

import pytest

from srr_core.recipe.stages import COMPRESSION, CONVERSION, TUNING, Shares, Stage, share_done

KINDS = {"compression": COMPRESSION, "conversion": CONVERSION, "tuning": TUNING}


@pytest.mark.parametrize("shares", KINDS.values(), ids=KINDS)
def test_the_stages_of_a_kind_follow_each_other(shares: Shares) -> None:
    ends = list(shares.values())

    assert (ends[0][0], ends[-1][1]) == (0.0, 1.0)
    assert all(earlier[1] == later[0] for earlier, later in pairwise(ends))


def test_every_stage_is_one_of_some_kind() -> None:
    assert set(Stage) == {stage for shares in KINDS.values() for stage in shares}


@pytest.mark.parametrize("stage", COMPRESSION)
def test_a_stage_grows_from_its_beginning_to_its_end(stage: Stage) -> None:
    begin, end = COMPRESSION[stage]

    assert [share_done(stage, done, 4) for done in (0, 4)] == [begin, end]
    assert share_done(stage, 0, 0) == end


def test_a_run_may_begin_and_end_in_the_middle() -> None:
    assert share_done(Stage.PLAN, 0, 1, first=Stage.PLAN, last=Stage.EVALUATE) == 0.0
    assert share_done(Stage.EVALUATE, 1, 1, first=Stage.PLAN, last=Stage.EVALUATE) == pytest.approx(1.0)
