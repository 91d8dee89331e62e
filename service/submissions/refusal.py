"""Every obstacle to a submission, gathered so that a caller mends them together."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.hub.errors import HubError
from service.jobs.errors import JobError
from srr_core.errors import SrrError

SOURCE = "body.source.model_id"
REFERENCE = "body.reference.model_id"
RECIPE = "body.recipe"
TARGET = "body.target"
DESTINATION = "body.destination.repo_id"


@dataclass(frozen=True)
class Obstacle:
    """One reason why a job would fail, and the field of the request that has to change."""

    field: str
    error: HubError | JobError | SrrError


class SubmissionRefusedError(Exception):
    """All obstacles of a submission: the cause of the first one, which says the status and the sentence."""

    def __init__(self, obstacles: Sequence[Obstacle]) -> None:
        super().__init__("; ".join(str(obstacle.error) for obstacle in obstacles))
        self.obstacles = tuple(obstacles)


def refuse(obstacles: Sequence[Obstacle]) -> None:
    """Raise the first obstacle, with all of them as its cause; do nothing when there is none."""
    if obstacles:
        raise obstacles[0].error from SubmissionRefusedError(obstacles)
