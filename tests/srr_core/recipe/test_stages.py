"""The stages of a run share the whole among them."""

from itertools import pairwise

import pytest

from srr_core.recipe.stages import SHARES, Stage, share_done


def test_every_stage_has_its_share_and_they_follow_each_other() -> None:
    ends = [SHARES[stage] for stage in Stage]

    assert (ends[0][0], ends[-1][1]) == (0.0, 1.0)
    assert all(earlier[1] == later[0] for earlier, later in pairwise(ends))


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_grows_from_its_beginning_to_its_end(stage: Stage) -> None:
    begin, end = SHARES[stage]

    assert [share_done(stage, done, 4) for done in (0, 4)] == [begin, end]
    assert share_done(stage, 0, 0) == end


def test_a_run_may_begin_and_end_in_the_middle() -> None:
    assert share_done(Stage.PLAN, 0, 1, first=Stage.PLAN, last=Stage.EVALUATE) == 0.0
    assert share_done(Stage.EVALUATE, 1, 1, first=Stage.PLAN, last=Stage.EVALUATE) == pytest.approx(1.0)
