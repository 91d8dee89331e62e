"""How large the next step is, and when a block has learned enough."""

FLAT = 1e-3
"""A loss that has fallen by less than this share over the patience is called flat. A heuristic."""


class Schedule:
    """Steps that fall linearly to nothing; sooner, once the loss is flat.

    A loss that is flat while steps are large is often the noise of these steps, so a flat loss does not end the
    learning at once: the steps fall to nothing within another `patience` of them.

    Args:
        iterations: Steps to take at most.
        patience: Steps over which losses are averaged and compared.
    """

    def __init__(self, iterations: int, patience: int) -> None:
        self._patience = patience
        self._iterations = iterations
        self._end = iterations
        self._losses: list[float] = []

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return len(self._losses)

    @property
    def share(self) -> float:
        """Size of the next step, 1 for the first; 0 when there is none."""
        if self.steps >= self._end:
            return 0.0
        usual = 1 - self.steps / self._iterations
        if self._end == self._iterations:
            return usual
        began = self._end - self._patience
        return (1 - began / self._iterations) * (self._end - self.steps) / self._patience

    def note(self, loss: float) -> None:
        """Take in the loss of the step that was taken."""
        self._losses.append(loss)
        if self._end == self._iterations and self._is_flat():
            self._end = min(self._iterations, self.steps + self._patience)

    def _is_flat(self) -> bool:
        patience = self._patience
        if self.steps < 2 * patience:
            return False
        recent, earlier = sum(self._losses[-patience:]), sum(self._losses[-2 * patience : -patience])
        return recent > (1 - FLAT) * earlier
