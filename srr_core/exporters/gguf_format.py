"""One GGUF file for llama.cpp, with L·R in its weights; or Q exactly and L·R as a GGUF LoRA beside it."""

from importlib.util import find_spec
from pathlib import Path

from typing_extensions import override

from srr_core.errors import ExportError
from srr_core.exporters.card import ExportCard
from srr_core.exporters.exporter import Exporter, carry_licence
from srr_core.formats.artifact import Artifact
from srr_core.recipe import GGUFSpec

MODEL_FILE = "model.gguf"
ADAPTER_FILE = "adapter.gguf"


class GGUFExporter(Exporter[GGUFSpec]):
    """Needs the `gguf` extra, and an architecture and tokenizer that llama.cpp knows under a name of its own."""

    @override
    def write(self, artifact: Artifact, destination: Path) -> tuple[str, ...]:
        """Write one or two files.

        Raises:
            ExportError: the architecture, tokenizer or grid has no exact counterpart; the message says which.
        """
        if find_spec("gguf") is None:
            raise ExportError("the GGUF export needs the gguf package: pip install 'srr-compression[gguf]'")
        from srr_core.exporters.gguf_model import (  # noqa: PLC0415  # gguf is an optional dependency
            ModelWriter,
            write_adapter,
        )

        writer = ModelWriter(artifact, self.spec)
        notes = [writer.write(destination / MODEL_FILE)]
        context = writer.naming.context_length
        if context < writer.naming.config.max_position_embeddings:
            notes.append(
                f"keep to {context} tokens: beyond its attention window llama.cpp attends to more than the model"
            )
        if self._has_adapter_file(artifact):
            write_adapter(artifact, writer.naming, destination / ADAPTER_FILE)
            notes.append(f"use both: llama-cli -m {MODEL_FILE} --lora {ADAPTER_FILE}; without the second it is Q alone")
        carry_licence(artifact, destination)
        return tuple(notes)

    @override
    def cards(self, artifact: Artifact) -> tuple[ExportCard, ...]:
        """Return the card of the GGUF files."""
        adapter = f" --lora {ADAPTER_FILE}" if self._has_adapter_file(artifact) else ""
        loading = f"```sh\nllama-cli -m {MODEL_FILE}{adapter}\n```"
        return (ExportCard("GGUF for llama.cpp", loading, "gguf"),)

    def _has_adapter_file(self, artifact: Artifact) -> bool:
        return self.spec.merged == "none" and artifact.adapter is not None
