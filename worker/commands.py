"""The subcommands of `srr` that need torch or write to a hub; `service.cli` loads them by name."""

import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from examples import CALIBRATION_TEXT, EVALUATION_TEXT
from service.client import Client
from service.commands.output import EXIT_BAD_INPUT, EXIT_FAILED, CommandError, print_json, print_line, status_console
from service.commands.progress import ProgressBar
from service.commands.remote import follow, print_summary
from service.commands.report_text import print_report
from service.commands.serve import embedded_service
from service.hub.errors import HubError, HubUnavailableError
from service.platform.logging import configure_logging
from srr_core.recipe import PRESETS, Recipe
from srr_core.recipe.baselines import BASELINES
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.stages import Stage, share_done
from worker.hub_commands import DEMO_ID, seed

if TYPE_CHECKING:  # torch: only the commands that compute pay for it
    from service.hub.model import ResolvedModel
    from srr_core.report import Report
    from srr_core.types import Progress, ShouldStop

DEMO_OWNER = "demo"
DEMO_WINDOWS = {"num_sequences": 64, "sequence_length": 256}
"""The bundled texts hold 200 windows of this length; a quarter of the calibration gives the same ranking of recipes."""
DEMO_EVALUATION = {"num_sequences": 32, "sequence_length": 256}
"""As many as the divergence is measured at, so that the perplexities of the baselines compare, too."""


def compress(
    source: str,
    destination: Path,
    *,
    recipe: Recipe,
    revision: str,
    calibration_text: Path | None,
    evaluation_text: Path | None,
    device: str,
    hub_token: str | None,
    as_json: bool,
) -> None:
    """Compress a folder or a model of the Hub into a new folder and print the report."""
    from srr_core.pipeline import compress as run

    quiet_libraries()
    with stop_on_interrupt() as should_stop, ProgressBar(f"{source} → {destination}") as progress:
        folder, model = local_source(source, revision, destination, hub_token, progress, should_stop)
        report = run(
            folder,
            recipe,
            destination,
            model_id=source if model is not None else None,
            revision=model.sha if model is not None else None,
            calibration_text=calibration_text or CALIBRATION_TEXT,
            evaluation_text=None if recipe.evaluation is None else evaluation_text or EVALUATION_TEXT,
            device=device,
            on_progress=lambda step: _show(progress, step),
            should_stop=should_stop,
            before_publish=lambda artifact, report: write_card(artifact, destination.name, report, model or folder),
        )
    shutil.rmtree(download_folder(destination), ignore_errors=True)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_report(report)
        print_line(f"written     {destination}")


def run_worker() -> None:
    """Run a worker until a signal."""
    from worker.app import main

    main()


def demo(*, model: str | None, recipe: Recipe, data_dir: Path, exit_when_done: bool) -> None:
    """Run a service of its own, submit a model over REST with both baselines, and end with what the report comes to."""
    recipe = recipe.model_copy(update={"baselines": BASELINES})
    configure_logging(level="WARNING")
    console = status_console()
    data_dir = data_dir.resolve()
    source = model or DEMO_ID
    if model is None:
        seed(data_dir)
    with embedded_service(port=0, data_dir=data_dir) as url, Client(url) as client:
        job = client.submit(
            source,
            destination=f"{DEMO_OWNER}/{source.partition('/')[2]}-{recipe.name}-{recipe.quantization_bits}bit",
            recipe=recipe.name if PRESETS.get(recipe.name) == recipe else recipe.model_dump(mode="json"),
            calibration=DEMO_WINDOWS,
            evaluation=DEMO_EVALUATION,
        )
        print_line(f"job page    {url}/jobs/{job.id}")
        job = follow(client, job)
        print_line(f"report      {url}/jobs/{job.id}/report")
        print_line(f"data        {data_dir}")
        print_summary(job, client.report(job.id))
        # A person looks around; a pipe on either side wants the end.
        if not exit_when_done and sys.stdin.isatty() and sys.stdout.isatty():
            console.print(f"The service stays at {url}; Ctrl-C stops it.")
            signal.pause()


@contextmanager
def stop_on_interrupt() -> "Iterator[ShouldStop]":
    """Yield a question that is answered with yes after Ctrl-C; a second Ctrl-C interrupts at once."""
    is_asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_asked
        is_asked = True
        signal.signal(signal.SIGINT, before)
        status_console().print("Stopping after this layer; Ctrl-C again to stop now. The same command resumes.")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: is_asked
    finally:
        signal.signal(signal.SIGINT, before)


def quiet_libraries() -> None:
    """Keep the remarks of the libraries off the terminal; what matters of them is in the report."""
    warnings.simplefilter("ignore")
    for name in ("transformers", "huggingface_hub", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # of transformers


@contextmanager
def naming_both_places(source: str) -> Iterator[None]:
    """Let a failure to find a model say that it was looked for here as well as on the Hub."""
    try:
        yield
    except HubError as error:
        code = EXIT_FAILED if isinstance(error, HubUnavailableError) else EXIT_BAD_INPUT
        raise CommandError(f"{source} is no folder here, and as a model of the Hub: {error}", exit_code=code) from error


def local_source(
    source: str,
    revision: str,
    destination: Path,
    token: str | None,
    progress: ProgressBar,
    should_stop: "ShouldStop",
    *,
    taken: "Callable[[ResolvedModel], ResolvedModel] | None" = None,
) -> "tuple[Path, ResolvedModel | None]":
    """Return the folder of a model, downloaded beside the destination where it is one of the Hub.

    Args:
        taken: What of a model is fetched where it is taken with all that changes its outputs; else its source alone.

    Raises:
        CommandError: there is no such model.
        HubError: it cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        return path, None
    from worker.hub import HuggingFaceHub

    hub = HuggingFaceHub()
    progress.advance(Stage.DOWNLOAD, 0.0)
    with naming_both_places(source):
        model = hub.resolve(source, revision, token=token)

    def show_bytes(done: int, total: int) -> None:
        progress.remark(f"{size_words(done)} of {size_words(total)}")

    if taken is not None:
        model = taken(model)
    folder = hub.download(
        model,
        download_folder(destination),
        whole=taken is not None,
        token=token,
        on_progress=show_bytes,
        should_stop=should_stop,
    )
    return folder, model


def write_card(artifact: Path, name: str, report: "Report", model: "ResolvedModel | Path") -> None:
    """Write the README of an artifact on disk."""
    from worker.card import model_card
    from worker.card_pictures import write_card
    from worker.publisher import quant_method

    source = _described_folder(report.source.id, model) if isinstance(model, Path) else model
    # A folder has no repository id; its own name is what from_pretrained takes beside it.
    card = model_card(report, repo_id=f"./{name}", source=source, quant_method=quant_method(artifact))
    write_card(artifact, card, report)


def _described_folder(name: str, folder: Path) -> "ResolvedModel":
    """A folder as a source: it has no commit, but its card names licence, language and tags like any other."""
    from service.hub.folder import read_card
    from service.hub.metadata import card_fields
    from service.hub.model import ResolvedModel

    card = read_card(folder / "README.md")
    task = card.get("pipeline_tag")
    return ResolvedModel(
        *(name, "", True, False, ()), pipeline_tag=task if isinstance(task, str) else None, **card_fields(card)
    )


def download_folder(destination: Path) -> Path:
    """Return where a model of the Hub is downloaded to."""
    # Beside the destination and kept until the end, so that an interrupted run does not download again.
    return destination.with_name(f"{destination.name}.source")


def _show(progress: ProgressBar, step: "Progress") -> None:
    stage = Stage(step.stage)
    if stage is Stage.CALIBRATE:  # alternates with compress block by block; one stage to who waits
        progress.remark(f"calibrated {step.completed} of {step.total} blocks")
        return
    if step.layer is not None and step.metrics:
        progress.remark(f"{step.layer}  error {step.metrics.get('output_error', 0.0):.4f}")
    share = share_done(stage, step.completed, step.total, first=Stage.PLAN, last=Stage.EVALUATE)
    progress.advance(stage, share)
