"""Load time, memory and tokens per second as rows."""

from typing import ClassVar

from srr_core.evaluators.speed.compare import SpeedComparison, compare_speed, describe_protocol
from srr_core.evaluators.speed.probe import ProbeOptions
from srr_core.evaluators.subject import Evaluator, Subject, window
from srr_core.recipe.evaluations import SpeedMemorySpec
from srr_core.report import Measurement

_FIXED = {"load_seconds": ("Time to load", "s"), "resident_bytes": ("Memory held by the model", "bytes")}
"""Title and unit of the measures of which less is better."""


class SpeedMemoryEvaluator(Evaluator):
    """Both models by turns; never from the cache, because a machine is not the same on another day."""

    kind: ClassVar[str] = "speed-memory"

    def __init__(self, spec: SpeedMemorySpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse models that cannot be built."""
        for opened in subject.models():
            opened.architecture()

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return one row per measure; `value / source` is what to trust on a machine that does other work."""
        longest = min(window(opened, self._spec.prompt_tokens + self._spec.new_tokens) for opened in subject.models())
        new = min(self._spec.new_tokens, max(longest // 2, 1))
        options = ProbeOptions(
            batch_sizes=self._spec.batch_sizes,
            # One more token is decoded to warm up.
            prompt_tokens=max(min(self._spec.prompt_tokens, longest - new - 1), 1),
            new_tokens=new,
            dtype=self._spec.dtype,
        )
        found = compare_speed(
            None if subject.source is None else subject.source.directory,
            subject.model.directory,
            subject.device,
            options,
            rounds=self._spec.rounds,
            after_turn=subject.check_stop,
        )
        protocol = describe_protocol(subject.device, options, rounds=self._spec.rounds)
        return tuple(_row(name, found, protocol, self._spec.rounds) for name in found.compressed)


def _row(name: str, found: SpeedComparison, protocol: str, rounds: int) -> Measurement:
    value, source = found.compressed[name], found.source.get(name)
    spread = found.spread.get(name)
    said = "" if spread is None or rounds < 2 else f"; its ratio to the source varies by ±{100 * spread:.0f} %"
    title, unit = _FIXED.get(name, ("Tokens per second, " + name.replace("@", " at batch "), "tokens/s"))
    return Measurement(
        evaluator=SpeedMemoryEvaluator.kind,
        metric=name if name in _FIXED else f"tokens_per_second:{name}",
        title=title,
        unit=unit,
        direction="lower" if name in _FIXED else "higher",
        source=source,
        compressed=value,
        protocol=protocol + said,
        samples=rounds,
    )
