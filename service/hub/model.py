"""One model at one commit, as a value, and what must hold before any of it is downloaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from service.hub.errors import (
    LicenseError,
    LicenseUnclearError,
    NoSafetensorsError,
    RemoteCodeError,
    UnsafeModelError,
)
from srr_core.recipe.architectures import ARCHITECTURES, TRANSFORMERS

ALLOWED_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "preprocessor_config.json",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
    "README.md",
)
"""The only names ever downloaded. Everything else (pickles, Python, GGUF, ONNX) stays on the hub."""

SINGLE_WEIGHT_FILE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
_WEIGHT_NAMES = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model-\d+-of-\d+\.safetensors"),
    re.compile(r"(?!adapter_).*\.safetensors"),
)
"""Which weights to read, the first pattern that matches anything; an adapter alone is not a model."""

MAX_SUPPORT_FILE_BYTES = 200_000_000
"""Cap for everything but weights; the largest tokenizer seen in the wild has about 35 MB."""

LEGAL_FILES = ("LICENSE*", "NOTICE*", "USE_POLICY*")
"""Files that must travel with every derivative."""

_FORBIDDEN_SUFFIXES = (".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
"""Refused even when a name pattern such as `tokenizer*` would let them through."""

NO_DERIVATIVES = frozenset({"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"})
"""Hub licence identifiers that forbid derivatives. Source: the Hub's list of licences."""

UNCLEAR_LICENSES = frozenset({"other", "unknown"})
"""Hub licence identifiers that say nothing about derivatives; `other` comes with a text of its own."""


@dataclass(frozen=True)
class RepoFile:
    """One file of a commit as the hub lists it."""

    path: str
    size_bytes: int
    sha256: str | None = None
    """Hash of the content; hubs list it for large files only."""
    git_sha1: str | None = None
    """Git blob id: of the content for a small file, of the pointer for a large one."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model pinned to a commit: everything known of it without reading a weight."""

    model_id: str
    """The canonical id; differs from the requested one after a rename."""
    sha: str
    """40 hexadecimal digits."""
    private: bool
    gated: bool
    files: tuple[RepoFile, ...]
    config: Mapping[str, Any] | None = None
    """config.json, or None when there is none or it is not a JSON object."""
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    tags: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    url: str | None = None
    """Page of the model for people; None where a hub has none."""
    flagged: tuple[str, ...] = ()
    """Files the hub's own malware scan calls unsafe. An unfinished scan flags nothing."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """The metadata block of the model card, as parsed by the hub. Written by strangers: never trust it."""

    @property
    def weights(self) -> tuple[RepoFile, ...]:
        """The safetensors files transformers would load, in a stable order; empty when there are none.

        Many repositories hold the same weights twice (`consolidated.safetensors`, `model.fp16.safetensors`, one file
        beside shards). What stock loaders read comes first, and nothing else is fetched then.
        """
        found = sorted((file for file in self.files if is_allowed(file.path)), key=lambda file: file.path)
        for pattern in _WEIGHT_NAMES:
            chosen = tuple(file for file in found if pattern.fullmatch(file.path))
            if chosen:
                return chosen
        return ()

    @property
    def has_safetensors(self) -> bool:
        """Whether there are weights that can be read without running anything."""
        return bool(self.weights)

    @property
    def needs_remote_code(self) -> bool:
        """Whether only code of the repository could run it: it names some, and transformers has no such class."""
        is_stock = next(iter(self.architectures), "") in ARCHITECTURES
        return bool(self.config and self.config.get("auto_map")) and not is_stock

    @property
    def architectures(self) -> tuple[str, ...]:
        """Class names the configuration asks for; empty when it names none."""
        names = (self.config or {}).get("architectures")
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    @property
    def downloads(self) -> tuple[RepoFile, ...]:
        """The files a download would fetch, in a stable order."""
        others = (file for file in self.files if is_allowed(file.path) and not self._is_other_weight(file.path))
        return tuple(sorted((*others, *self.weights), key=lambda file: file.path))

    def _is_other_weight(self, path: str) -> bool:
        is_single_file = any(file.path == SINGLE_WEIGHT_FILE for file in self.weights)
        return path.endswith(".safetensors") or (is_single_file and path.endswith(INDEX_SUFFIX))

    @property
    def download_bytes(self) -> int:
        """Disk space that `downloads` takes."""
        return sum(file.size_bytes for file in self.downloads)

    @property
    def weight_bytes(self) -> int:
        """Size of `weights`."""
        return sum(file.size_bytes for file in self.weights)


def is_allowed(path: str) -> bool:
    """Tell whether a file of a source repository may be downloaded: top level, listed, and never code."""
    plain = PurePosixPath(path)
    if len(plain.parts) != 1 or "\\" in path or path.startswith((".", "-")):
        return False
    return not path.endswith(_FORBIDDEN_SUFFIXES) and any(fnmatchcase(path, pattern) for pattern in ALLOWED_FILES)


def check_compressible(model: ResolvedModel) -> None:
    """Refuse what must not be downloaded, before a byte of it is.

    Raises:
        NoSafetensorsError, RemoteCodeError, LicenseError: as their names say.
        UnsafeModelError: the hub's scan flags a file we would fetch, or a tokenizer is as large as a model.
    """
    if model.needs_remote_code:
        raise RemoteCodeError(
            f"{model.model_id} needs Python code of its own repository (auto_map in config.json), which is never run "
            f"here, and transformers {TRANSFORMERS} has no class for it; use a version of the model that has one."
        )
    if not model.has_safetensors:
        raise NoSafetensorsError(
            f"{model.model_id} has no .safetensors weights of a whole model at commit {model.sha[:12]}; other weight "
            "files can run code when loaded. Convert the model with save_pretrained() and push it again."
        )
    _check_files(model)
    if model.license is not None and model.license.lower() in NO_DERIVATIVES:
        raise LicenseError(
            f"{model.model_id} is licensed {model.license}, which forbids derivatives, and a compressed model is one; "
            "ask its owner for permission and another licence."
        )


def check_license(model: ResolvedModel, *, acknowledged: bool) -> None:
    """Refuse a licence that only a person can judge, unless that person has.

    Raises:
        LicenseUnclearError: it is missing, `other` or `unknown`, and was not acknowledged.
    """
    if acknowledged or (model.license is not None and model.license.lower() not in UNCLEAR_LICENSES):
        return
    stated = f"states the licence {model.license!r}" if model.license else "states no licence"
    name = f" ({model.license_name})" if model.license_name else ""
    raise LicenseUnclearError(
        f"{model.model_id} {stated}{name}, so whether it may be compressed and published is not known here; read its "
        "terms and, if they allow it, set acknowledge_license on the job or the watch."
    )


def _check_files(model: ResolvedModel) -> None:
    for file in model.downloads:
        if file.path in model.flagged:
            raise UnsafeModelError(
                f"The hub's malware scan calls {file.path} of {model.model_id} unsafe; choose another revision."
            )
        if file.size_bytes > MAX_SUPPORT_FILE_BYTES and file not in model.weights:
            raise UnsafeModelError(
                f"{file.path} of {model.model_id} has {file.size_bytes:,} bytes, more than any tokenizer or "
                "configuration needs; choose another revision."
            )
