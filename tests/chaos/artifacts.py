"""Published artifacts, taken from the Hub and loaded as a user would."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from srr_core.verification.reload import verify_structure
from tests.chaos.installation import Installation
from tests.hub_server import Repository


def load_error(installation: Installation, repository: Repository, directory: Path) -> str | None:
    """Return why an artifact cannot be used, or None when it loads and answers with finite numbers."""
    for path, file in repository.head.files.items():
        copy = directory / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(installation.hub.state.content(file) or b"")
    try:
        verify_structure(directory)
        model = AutoModelForCausalLM.from_pretrained(directory)
        with torch.no_grad():
            logits = model(torch.arange(3, 19).unsqueeze(0)).logits
    except Exception as error:  # noqa: BLE001  # whatever a loader raises is the finding
        return f"{type(error).__name__}: {error}"
    return None if bool(torch.isfinite(logits).all()) else "its answers are not finite"
