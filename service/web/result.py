"""What the page of a finished compression shows first: the verdict, four numbers, how to use it, and what now."""

from dataclasses import dataclass

from service.jobs.schema import Job
from service.jobs.work import CompressWork
from service.web.formatting import duration
from service.web.other_bits import Other, other_bits
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.evaluations import misfit, too_large
from srr_core.report import Measurement, Report
from srr_core.telling.conversions import Conversion, conversions
from srr_core.telling.loading import Loading, Step, loadings
from srr_core.telling.sizes import bits_of_model
from srr_core.telling.verdict import Verdict, verdict

_FILE = "file://"


@dataclass(frozen=True)
class Tile:
    """One number, with what it is of."""

    label: str
    value: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ResultView:
    """The beginning of the page of a compression that succeeded."""

    verdict: Verdict
    tiles: tuple[Tile, ...]
    """Quality, size, bits and time."""
    loadings: tuple[Loading, ...]
    download: Step | None
    """How the files are fetched; None where they lie in a folder."""
    folder: str | None
    """Where they lie, of a folder hub: it answers no client, so names of repositories mean nothing to one."""
    conversions: tuple[Conversion, ...]
    answers: bool
    """Whether a worker would continue a prompt with it and with its source."""
    others: tuple[Other, ...]
    """The same with one bit more or less."""


def result_view(job: Job, work: CompressWork, report: Report, *, owner: str) -> ResultView:
    """Return the outcome of a compression.

    Args:
        owner: Whose namespace an unnamed destination lies in.
    """
    result = job.result
    folder = result.commit_url.removeprefix(_FILE) if result and result.commit_url.startswith(_FILE) else None
    repo_id = result.repo_id if result else work.destination.repo_id
    fetch = None if result is None or folder is not None else _download(repo_id, result.commit_sha)
    return ResultView(
        verdict=verdict(report),
        tiles=report_tiles(job, report),
        loadings=loadings(report, repo_id, folder=folder),
        download=fetch,
        folder=folder,
        conversions=conversions(report),
        answers=result is not None and _answers(report),
        others=other_bits(job, work, owner=owner),
    )


def report_tiles(job: Job, report: Report) -> tuple[Tile, ...]:
    """Return the four numbers of a compression."""
    return (_quality(report), _size(report), _bits(report), _time(job, report))


def _quality(report: Report) -> Tile:
    rows = {row.evaluator: row for row in reversed(report.measurements)}
    divergence = rows.get("divergence")
    perplexity = rows.get("perplexity") or rows.get("word-perplexity")
    change = "" if perplexity is None else _change(perplexity)
    if divergence is not None:
        error = "" if divergence.standard_error is None else f"± {divergence.standard_error:.2g} "
        return _tile("Quality", f"KL {divergence.number(divergence.compressed)}", f"{error}{divergence.unit}", change)
    if perplexity is not None:
        value = f"Perplexity {perplexity.number(perplexity.compressed)}"
        return _tile("Quality", value, change, "No divergence was measured")
    return _tile("Quality", "Not measured", f"Mean error of a layer {report.mean_output_error:.4f}")


def _change(row: Measurement) -> str:
    if not row.source:
        return ""
    doubt = "" if row.is_told_apart else ", within the noise"
    return f"Perplexity {100 * (row.compressed / row.source - 1):+.1f} %{doubt}"


def _size(report: Report) -> Tile:
    sizes = report.size_bytes
    share = f"{100 * sizes.compressed / sizes.source:.0f} % of" if sizes.source else "from"
    return _tile("Size", size_words(sizes.compressed), f"{share} the source's {size_words(sizes.source)}")


def _bits(report: Report) -> Tile:
    whole, own = bits_of_model(report), report.bits_per_weight.total
    if whole is None:
        return _tile("Bits per weight", f"{own:.2f}", "Over the compressed weights")
    return _tile("Bits per weight", f"{whole:.2f}", "Over the whole model", f"{own:.2f} over the compressed weights")


def _time(job: Job, report: Report) -> Tile:
    began, ended = job.started_at, job.finished_at
    seconds = sum(report.seconds.values()) if began is None or ended is None else (ended - began).total_seconds()
    return _tile("Time", duration(max(seconds, 0.0)), f"On {report.environment.device}", _longest(report))


def _longest(report: Report) -> str:
    stage = max(report.seconds, key=lambda stage: report.seconds[stage], default=None)
    return "" if stage is None else f"Longest: {stage}, {duration(report.seconds[stage])}"


def _tile(label: str, value: str, *notes: str) -> Tile:
    return Tile(label, value, tuple(filter(None, notes)))


def _answers(report: Report) -> bool:
    reasons = (
        misfit("samples", report.source.architecture, has_reference=True, has_pairs=False),
        too_large("samples", report.size_bytes.source, report.source.id),
    )
    return not any(reasons)


def _download(repo_id: str, sha: str) -> Step:
    name = repo_id.rpartition("/")[2]
    return Step("sh", f"hf download {repo_id} --revision {sha} --local-dir {name}")
