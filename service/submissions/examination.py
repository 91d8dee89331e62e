"""What was found out about a submission before it is queued."""

from collections.abc import Callable
from dataclasses import dataclass, field

from service.hub.destination import Destination
from service.hub.errors import HubError, HubRefusedError, HubUnavailableError
from service.hub.model import ResolvedModel
from service.hub.weights import Weights
from service.jobs.errors import JobError
from service.platform.text import clean
from service.submissions.refusal import Obstacle
from srr_core.errors import SrrError
from srr_core.tuners.data_report import DataSketch


@dataclass
class Examination:
    """What was found out about a submission."""

    model: ResolvedModel | None = None
    reference: ResolvedModel | None = None
    """What the model is compared with."""
    weights: Weights | None = None
    data: DataSketch | None = None
    """What rows that came with the job are."""
    judged: DataSketch | None = None
    """What rows to judge by are, where they came apart from the others."""
    destination: Destination | None = None
    private: bool | None = None
    obstacles: list[Obstacle] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unanswered: list[HubError] = field(default_factory=list)
    """Questions to which a hub gave no clear answer; nothing follows from them."""

    @property
    def not_asked(self) -> list[str]:
        """What could not be checked, in words."""
        return [clean(str(error)) for error in self.unanswered]

    def require_answers(self) -> None:
        """Raise what kept a hub from answering, if anything did."""
        if self.unanswered:
            raise self.unanswered[0]

    def is_refused(self, field: str) -> bool:
        """Whether something is wrong with a field of the request."""
        return any(obstacle.field == field for obstacle in self.obstacles)

    def attempt(self, where: str, check: Callable[[], None]) -> None:
        """Run a check and keep what it complains about."""
        try:
            check()
        except (HubUnavailableError, HubRefusedError) as error:
            self.unanswered.append(error)
        except (HubError, JobError, SrrError) as error:
            self.obstacles.append(Obstacle(where, error))
