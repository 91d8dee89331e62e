"""A result of ours with the factors of one of its checkpoints in place of those that were published."""

from pathlib import Path

from srr_core.checkpoint.artifact_names import ADAPTER_FILE
from srr_core.formats.adapter import ADAPTER_CONFIG
from srr_core.tuners.folders import HEAD_FILE, appearing, link_files
from srr_core.tuners.kept import KEPT_BASE, KEPT_FOLDER, kept_folder, kept_steps, require_kept

_REPLACED = (ADAPTER_FILE, ADAPTER_CONFIG, HEAD_FILE)


def steps_in(artifact: Path) -> tuple[int, ...]:
    """Return the steps of every checkpoint that a result keeps."""
    files = (artifact / KEPT_FOLDER).glob(f"*/{ADAPTER_FILE}")
    return kept_steps(file.relative_to(artifact).as_posix() for file in files)


def checkpoint_base(artifact: Path) -> Path:
    """Return the folder with what the checkpoints of a result stand on: itself, where it is no other form of it."""
    kept = artifact / KEPT_BASE
    return kept if kept.is_dir() else artifact


def write_kept_base(tuned: Path, artifact: Path) -> None:
    """Put the base of checkpoints beside a result of another form; without an adapter, so nobody takes it for a model.

    Args:
        tuned: The same fine-tuning as base and adapter.
    Raises:
        StorageError: the disk is full.
    """
    adapter = {ADAPTER_FILE, ADAPTER_CONFIG}
    with appearing(artifact / KEPT_BASE) as partial:
        link_files((file for file in sorted(tuned.iterdir()) if file.name not in adapter), partial)


def write_at_checkpoint(artifact: Path, step: int, destination: Path) -> None:
    """Write a result, as base and adapter, as it would have been published after a number of steps.

    Args:
        destination: An empty folder.
    Raises:
        RecipeError: it keeps no such checkpoint.
        StorageError: the disk is full.
    """
    require_kept(artifact.name, step, steps_in(artifact))
    base, left = checkpoint_base(artifact), {KEPT_FOLDER, *_REPLACED}
    link_files((file for file in sorted(base.iterdir()) if file.name not in left), destination)
    kept = kept_folder(artifact, step)
    link_files((kept / name for name in _REPLACED if (kept / name).is_file()), destination)
