"""One model at one commit, as a value, and what must hold before any of it is downloaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

from service.hub.errors import (
    InvalidWeightsError,
    LicenseError,
    LicenseUnclearError,
    NoSafetensorsError,
    RemoteCodeError,
    UnsafeModelError,
)
from srr_core.checkpoint.carried_files import carried_files
from srr_core.checkpoint.weight_files import INDEX_SUFFIX, SINGLE_NAME, first_file, named_files
from srr_core.errors import CheckpointError
from srr_core.recipe.architectures import ARCHITECTURES, TRANSFORMERS
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.stored_schemes import is_artifact
from srr_core.tuners.kept import is_of_kept_base, kept_step, kept_steps

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
TUNING_REPORT = "tuning.json"
_OF_A_RESULT = frozenset(
    {
        *("adapter_model.safetensors", "adapter_config.json", "model-head.safetensors"),
        *("report.json", "recipe.json", TUNING_REPORT),
    }
)
"""What a result of ours has beside a source."""
MAX_SUPPORT_FILE_BYTES = 200_000_000
"""Cap for everything but weights; the largest tokenizer seen in the wild has about 35 MB."""

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

    index: Mapping[str, Any] | None = None
    """The index of the weights, where stock loaders read one (see `index_file`), or None."""
    modules: Any = None
    """What modules.json lists, where the model has one."""
    checkpoint: int | None = None
    """Steps of the kept checkpoint that is wanted with it, of a fine-tuning of ours."""
    with_adapter: bool = False
    """Whether the adapter beside weights of 16 bits is taken with them, because a fine-tuning of ours left both."""

    @property
    def weights(self) -> tuple[RepoFile, ...]:
        """The safetensors files that transformers would load, in its order; empty when `weights_problem` says why."""
        return self._weights[0]

    @property
    def weights_problem(self) -> str:
        """Why there are no weights that can be read, or empty."""
        return self._weights[1]

    @cached_property
    def _weights(self) -> tuple[tuple[RepoFile, ...], str]:
        files = {file.path: file for file in self.files}
        try:
            first = _first_file(files, self.config, with_adapter=self.with_adapter)
            if not first.endswith(INDEX_SUFFIX):
                return (files[first],), ""
            if self.index is None:
                return (), f"{first}: holds no JSON object"
            return tuple(files[name] for name in named_files(first, self.index, files)), ""
        except CheckpointError as error:
            return (), str(error)

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

    @cached_property
    def downloads(self) -> tuple[RepoFile, ...]:
        """The files a download would fetch, in a stable order; everything else stays on the hub.

        Raises:
            InvalidWeightsError: the parts that modules.json lists cannot be fetched.
        """
        names = {file.path for file in self.files}
        try:
            wanted = {CONFIG_FILE, CARD_FILE, *carried_files(names, self.modules)}
        except CheckpointError as error:
            raise InvalidWeightsError(f"{self.model_id} cannot be fetched as a whole: {error}.") from error
        index = index_file(names, self.config)
        wanted |= {file.path for file in self.weights} | ({index} if index is not None else set())
        return tuple(file for file in sorted(self.files, key=lambda file: file.path) if file.path in wanted)

    @property
    def whole_downloads(self) -> tuple[RepoFile, ...]:
        """`downloads`, and all that changes the outputs of a result of ours: adapter, head, and a wanted checkpoint.

        Where that stands on a base of its own, the weights at the top are another form of the result and stay.
        """
        also = (file for file in self.files if self._is_of_result(file.path) and file.path not in self.flagged)
        found = {*self.downloads, *also}
        if self.checkpoint is not None and self.checkpoint_base:
            found -= set(self.weights)
        return tuple(sorted(found, key=lambda file: file.path))

    def _is_of_result(self, path: str) -> bool:
        is_wanted = self.checkpoint is not None and (kept_step(path) == self.checkpoint or is_of_kept_base(path))
        return path in _OF_A_RESULT or is_wanted

    @property
    def checkpoint_base(self) -> tuple[RepoFile, ...]:
        """The files of the base that kept checkpoints alone stand on; none where that is the result itself."""
        return tuple(file for file in self.files if is_of_kept_base(file.path))

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints that a fine-tuning of ours keeps beside its result."""
        return kept_steps(file.path for file in self.files)

    @property
    def download_bytes(self) -> int:
        """Disk space that `downloads` takes."""
        return sum(file.size_bytes for file in self.downloads)

    @property
    def weight_bytes(self) -> int:
        """Size of `weights`."""
        return sum(file.size_bytes for file in self.weights)


def going_on(model: ResolvedModel, checkpoint: int | None) -> ResolvedModel:
    """Return a result of ours as a fine-tuning takes it that goes on from it: with its own L·R, or a checkpoint's."""
    is_tuned = any(file.path == TUNING_REPORT for file in model.files)
    return replace(model, with_adapter=is_tuned, checkpoint=checkpoint)


def index_file(paths: Iterable[str], config: Mapping[str, Any] | None) -> str | None:
    """Return the index that names the weights of a model, or None where stock loaders read none."""
    try:
        first = _first_file(paths, config, with_adapter=True)
    except CheckpointError:
        return None
    return first if first.endswith(INDEX_SUFFIX) else None


def check_compressible(model: ResolvedModel) -> None:
    """Refuse what must not be downloaded to make another model of it, before a byte of it is.

    Raises:
        NoSafetensorsError, RemoteCodeError, LicenseError, UnsafeModelError: as their names say.
        InvalidWeightsError: the weights, or parts of the model beside them, are not what stock loaders take.
    """
    check_readable(model)
    if model.license is not None and model.license.lower() in NO_DERIVATIVES:
        raise LicenseError(
            f"{model.model_id} is licensed {model.license}, which forbids derivatives, and a compressed model is one; "
            "ask its owner for permission and another licence."
        )


def check_readable(model: ResolvedModel) -> None:
    """Refuse what must not be downloaded at all, not even to be measured.

    Raises:
        NoSafetensorsError, RemoteCodeError: as their names say.
        InvalidWeightsError: the weights, or parts of the model beside them, are not what stock loaders take.
        UnsafeModelError: the hub's scan flags a file we would fetch, or a tokenizer is as large as a model.
    """
    if model.needs_remote_code:
        raise RemoteCodeError(
            f"{model.model_id} needs Python code of its own repository (auto_map in config.json), which is never run "
            f"here, and transformers {TRANSFORMERS} has no class for it; use a version of the model that has one."
        )
    if not model.has_safetensors:
        _refuse_weights(model)
    _check_files(model)


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


def _refuse_weights(model: ResolvedModel) -> NoReturn:
    if model.weights_problem.startswith(f"no {SINGLE_NAME}"):
        raise NoSafetensorsError(
            f"{model.model_id} has no .safetensors weights of a whole model at commit {model.sha[:12]}: "
            f"{model.weights_problem}. Other weight files can run code when loaded."
        )
    raise InvalidWeightsError(f"The weights of {model.model_id} cannot be read: {model.weights_problem}.")


def _first_file(paths: Iterable[str], config: Mapping[str, Any] | None, *, with_adapter: bool) -> str:
    known = config or {}
    return first_file(paths, known, may_have_adapter=with_adapter or is_artifact(known))


def _check_files(model: ResolvedModel) -> None:
    for file in model.downloads:
        if file.path in model.flagged:
            raise UnsafeModelError(
                f"The hub's malware scan calls {file.path} of {model.model_id} unsafe; choose another revision."
            )
        if file.size_bytes > MAX_SUPPORT_FILE_BYTES and file not in model.weights:
            raise UnsafeModelError(
                f"{file.path} of {model.model_id} has {size_words(file.size_bytes)}, more than any tokenizer or "
                "configuration needs; choose another revision."
            )
