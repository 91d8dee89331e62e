"""Which codec wrote an artifact: the table from `quant_method` and quantizer, and what its marker says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from srr_core.checkpoint.artifact_names import BARE, COMPRESSED_TENSORS, MARKER, MARKER_VERSION, PATHS, STACKS
from srr_core.errors import CheckpointError, ExportError
from srr_core.formats.codecs import ByteCodec, Codec, WordCodec
from srr_core.formats.lattice_codec import LatticeCodec
from srr_core.formats.normal_float_codec import NormalFloatCodec
from srr_core.recipe import NormalFloatSpec, QuantizerSpec, QuIPSharpSpec
from srr_core.registry import Registry

MIXED = "mixed"
"""Key of our entry that lists other quantizers than the one most layers have, each with its layers."""

CODECS: Registry[Codec] = Registry("codec", {NormalFloatSpec: NormalFloatCodec, QuIPSharpSpec: LatticeCodec})
"""Of codes that lie on no uniform grid. Those that do need no row: the grid says how they are packed."""


@dataclass(frozen=True)
class Marker:
    """What an artifact says about itself in `quantization_config`."""

    quant_method: str
    spec: QuantizerSpec
    rank: int
    """Rank of the adapter that belongs to it; 0 where there is none."""
    bare: frozenset[str] = frozenset()
    """Compressed layers without L·R, by their names in the file: PEFT attaches nothing to them."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Paths in the model of layers and mixtures whose names in the file are others, by these."""
    mixed: Mapping[str, QuantizerSpec] = field(default_factory=dict)
    """The quantizers of layers that have another one than `spec`, by their names in the file."""
    stacks: Mapping[str, bool] = field(default_factory=dict)
    """Stacked parameters of the model, each with whether its matrices are [inputs, outputs] there."""

    def codec(self, module: str = "") -> Codec:
        """Return the codec a layer was written with, that of `spec` where none is named."""
        spec = self.mixed.get(module, self.spec)
        return word_codec(spec) if self.quant_method == COMPRESSED_TENSORS else byte_codec(spec)


def word_codec(spec: QuantizerSpec) -> WordCodec:
    """Return the codec of stock files.

    Raises:
        ExportError: the codes are not a uniform grid.
    """
    grid = spec.uniform_grid
    if grid is None:
        raise ExportError(f"{spec.kind} codes are not a uniform grid; compressed-tensors cannot hold them")
    return WordCodec(spec, grid)


def byte_codec(spec: QuantizerSpec) -> Codec:
    """Return the codec of our own layout.

    Raises:
        KeyError: no row of `CODECS`, which is a bug of the table.
    """
    grid = spec.uniform_grid
    return CODECS.build(spec) if grid is None else ByteCodec(spec, grid)


def is_ours(quantization_config: Mapping[str, Any]) -> bool:
    """Whether a `quantization_config` was written by this package."""
    return quantization_config.get("quant_method") == MARKER or MARKER in quantization_config


def read_marker(quantization_config: Mapping[str, Any], *, file: str) -> Marker:
    """Return what an artifact says about itself.

    Args:
        file: Where the configuration came from, for the message.
    Raises:
        CheckpointError: not one of our artifacts, written by a later version, or damaged.
    """
    method = quantization_config.get("quant_method")
    entry = quantization_config if method == MARKER else quantization_config.get(MARKER)
    if not isinstance(entry, Mapping) or method not in (MARKER, COMPRESSED_TENSORS):
        raise CheckpointError(f"{file}: quantization_config has no {MARKER!r} entry; this is not one of our artifacts")
    if entry.get("version") != MARKER_VERSION:
        raise CheckpointError(
            f"{file}: layout version {entry.get('version')!r}, but this release reads {MARKER_VERSION}; "
            "upgrade the package"
        )
    try:
        spec: QuantizerSpec = TypeAdapter(QuantizerSpec).validate_python(entry.get("quantizer"))
    except ValidationError as error:
        raise CheckpointError(f"{file}: the quantizer of the {MARKER!r} entry is not one this release knows") from error
    rank = entry.get("rank")
    if type(rank) is not int or rank < 0:
        raise CheckpointError(f"{file}: the adapter's rank is {rank!r}, not a number from 0 up")
    bare = entry.get(BARE, [])
    if not isinstance(bare, list) or not all(isinstance(name, str) for name in bare):
        raise CheckpointError(f"{file}: {BARE} of the {MARKER!r} entry is no list of layers")
    return Marker(
        str(method),
        spec,
        rank,
        frozenset(bare),
        paths=_paths(entry.get(PATHS, {}), file),
        mixed=_mixed(entry.get(MIXED, []), spec, file),
        stacks=_stacks(entry.get(STACKS, {}), file),
    )


def mixed_entry(mixed: Mapping[str, QuantizerSpec]) -> list[dict[str, Any]]:
    """Return what the marker says of layers with another quantizer: each quantizer once, with its layers."""
    specs = {spec.model_dump_json(): spec for spec in mixed.values()}
    return [
        {
            "quantizer": specs[key].model_dump(mode="json"),
            "modules": sorted(module for module, spec in mixed.items() if spec == specs[key]),
        }
        for key in sorted(specs)
    ]


def _mixed(entry: object, usual: QuantizerSpec, file: str) -> dict[str, QuantizerSpec]:
    try:
        rows = TypeAdapter(list[_MixedRow]).validate_python(entry)
    except ValidationError as error:
        raise CheckpointError(
            f"{file}: {MIXED} of the {MARKER!r} entry is no list of quantizers with modules"
        ) from error
    found: dict[str, QuantizerSpec] = {}
    for row in rows:
        if row.quantizer.uniform_grid is None or usual.uniform_grid is None or _form(row.quantizer) != _form(usual):
            raise CheckpointError(f"{file}: {MIXED} of the {MARKER!r} entry mixes grids that are stored differently")
        for module in row.modules:
            if module in found:
                raise CheckpointError(f"{file}: {MIXED} of the {MARKER!r} entry names {module} twice")
            found[module] = row.quantizer
    return found


def _form(spec: QuantizerSpec) -> tuple[object, ...]:
    """Return what layers of one file have in common: which tensors there are, and the dtype of scales."""
    grid = spec.uniform_grid
    return () if grid is None else (grid.is_symmetric, grid.scale_dtype)


class _MixedRow(BaseModel):
    model_config = ConfigDict(extra="forbid")

    quantizer: QuantizerSpec
    modules: list[str]


def _stacks(stacks: object, file: str) -> dict[str, bool]:
    if not isinstance(stacks, dict) or not all(isinstance(value, bool) for value in stacks.values()):
        raise CheckpointError(f"{file}: {STACKS} of the {MARKER!r} entry does not say how its matrices lie")
    return stacks


def _paths(paths: object, file: str) -> dict[str, str]:
    if not isinstance(paths, dict) or not all(isinstance(value, str) for pair in paths.items() for value in pair):
        raise CheckpointError(f"{file}: {PATHS} of the {MARKER!r} entry does not map names to paths")
    return paths


def with_entries(quantization_config: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `quantization_config` of ours with more in our entry; what is empty is left out."""
    more = {key: value for key, value in entries.items() if value}
    if quantization_config.get("quant_method") == MARKER:
        return {**quantization_config, **more}
    return {**quantization_config, MARKER: {**quantization_config[MARKER], **more}}
