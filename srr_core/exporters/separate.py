"""L·R as a repository of its own, on top of a base repository that holds Q alone."""

import shutil
from pathlib import Path
from typing import Any

from typing_extensions import override

from srr_core.checkpoint.artifact_names import MARKER
from srr_core.checkpoint.index import read_json
from srr_core.checkpoint.writer import write_json
from srr_core.errors import ExportError
from srr_core.exporters.card import ExportCard
from srr_core.exporters.exporter import Exporter, carry_files, carry_licence, write_config
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import Artifact
from srr_core.recipe import AdapterSpec

BASE_FOLDER = "base"
ADAPTER_FOLDER = "adapter"


class SeparateAdapterExporter(Exporter[AdapterSpec]):
    """Writes two folders, `base` and `adapter`.

    The artifact itself cannot be the base: transformers attaches the adapter that lies in it, and a
    second copy of L·R on top would count it twice.
    """

    @override
    def write(self, artifact: Artifact, destination: Path) -> tuple[str, ...]:
        """Write both repositories.

        Raises:
            ExportError: the artifact has rank 0, so there is no adapter.
        """
        if artifact.adapter is None:
            raise ExportError("the artifact has rank 0: there is no L·R to export; use it as it is")
        self._write_base(artifact, destination / BASE_FOLDER)
        adapter = destination / ADAPTER_FOLDER
        adapter.mkdir()
        shutil.copyfile(artifact.directory / ADAPTER_WEIGHTS, adapter / ADAPTER_WEIGHTS)
        config = read_json(artifact.directory / ADAPTER_CONFIG)
        write_json(adapter / ADAPTER_CONFIG, {**config, "base_model_name_or_path": self.spec.base_model})
        carry_licence(artifact, adapter)
        return (f"load {BASE_FOLDER}/ first, then {ADAPTER_FOLDER}/ on top: PeftModel.from_pretrained(model, adapter)",)

    @override
    def cards(self, artifact: Artifact) -> tuple[ExportCard, ...]:
        """Return a card for each of the two repositories."""
        base = self.spec.base_model or "BASE"
        loading = (
            "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{base}")\n'
            'model = PeftModel.from_pretrained(model, "ADAPTER")\n```\n\n'
            "For fine-tuning, merge first: `model = model.merge_and_unload()`, then `get_peft_model(model, config)`. A "
            "second adapter of the same name would overwrite L·R."
        )
        return (
            ExportCard("Q alone, the base of an adapter", loading, "transformers", folder=BASE_FOLDER),
            ExportCard(
                *("L·R, an adapter on its base", loading, "peft"),
                folder=ADAPTER_FOLDER,
                base_model=self.spec.base_model,
                relation="adapter",
            ),
        )

    def _write_base(self, artifact: Artifact, base: Path) -> None:
        base.mkdir()
        for file in sorted(artifact.directory.glob("*.safetensors")):
            if file.name != ADAPTER_WEIGHTS:
                shutil.copyfile(file, base / file.name)
        for index in artifact.directory.glob("*.safetensors.index.json"):
            shutil.copyfile(index, base / index.name)
        carry_files(artifact, base)
        write_config(artifact, base, {"quantization_config": _without_rank(artifact.config["quantization_config"])})


def _without_rank(quantization_config: dict[str, Any]) -> dict[str, Any]:
    if "rank" in quantization_config:
        return {**quantization_config, "rank": 0}
    return {**quantization_config, MARKER: {**quantization_config[MARKER], "rank": 0}}
