"""Which files belong to a model beside its weights and config.json: the one answer, for a folder and for a hub.

Tokenizers, processors and generation say themselves what their files are called; the names below are transformers' own,
and a test asks its classes again. The modules of an embedding model are listed in its `modules.json`. Nothing that can
run is ever among them.
"""

import json
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from srr_core.errors import CheckpointError, StorageError

MODULES_FILE = "modules.json"
"""Lists the parts of an embedding model and the folders that they lie in, as sentence-transformers writes it."""
_OF_TOKENIZERS = """
    bpe.codes byte_maps.json dict.txt emoji.json entity_vocab.json merges.txt normalizer.json prophetnet.tokenizer
    sentencepiece.bpe.model sentencepiece.model source.spm spiece.model spm.model spm_char.model target.spm
    target_vocab.json tokenizer.json tokenizer.model tokenizer_config.json vocab-src.json vocab-tgt.json vocab.json
    vocab.txt word_pronunciation.json word_shape.json
"""
_OTHERS = """
    added_tokens.json audio_tokenizer_config.json chat_template.jinja chat_template.json generation_config.json
    preprocessor_config.json processor_config.json special_tokens_map.json video_preprocessor_config.json
"""
TOKENIZER_FILES = frozenset(_OF_TOKENIZERS.split())
"""Every value of `vocab_files_names` of a tokenizer class of transformers."""
OTHER_FILES = frozenset(_OTHERS.split())
"""Names that loaders of tokenizers, processors and generation have beside them."""
TEMPLATES_FOLDER = "additional_chat_templates"
"""Of chat templates with names, a file each."""
LEGAL_PATTERNS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
"""Files that must travel with every derivative."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
RUNS = (".py", ".pyc", ".so", *PICKLES)
"""Ends of names of what is code, or runs code when it is loaded."""

_PATTERNS = ("tokenizer*", "config_sentence_transformers.json", "sentence_*_config.json", MODULES_FILE)
"""Tokenizers may be written for several versions, as `tokenizer.4.0.0.json`, and by other libraries."""


def carried_files(names: Iterable[str], modules: Any = None) -> tuple[str, ...]:
    """Return the files that belong to a model whatever its weights are, in order.

    Args:
        names: Of all files, relative to the folder of config.json, with `/` between folders.
        modules: What `modules.json` holds, or None where there is none.
    Raises:
        CheckpointError: `modules.json` is damaged or leads out of the folder, or a part of the model that it lists has
            its weights in a file that runs code when it is loaded.
    """
    present = sorted(names)
    folders = module_folders(modules)
    parts = [name for name in present if _folder_of(name, folders) is not None]
    for name in parts:
        has_other = any(_folder_of(other, folders) == _folder_of(name, folders) for other in parts if _is_safe(other))
        if name.endswith(PICKLES) and not has_other:
            raise CheckpointError(
                f"{MODULES_FILE} names a part of the model whose weights are in {name}, which runs code when it is "
                "loaded; save the model again with sentence-transformers to get safetensors"
            )
    carried = (name for name in present if (name in parts or _is_carried(name)) and not name.endswith(RUNS))
    return tuple(name for name in carried if is_inside(name))


def carried_in(folder: Path) -> tuple[str, ...]:
    """Return the files of a folder on this machine that belong to its model. Raises as `carried_files` does."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return carried_files(names, _read_modules(folder / MODULES_FILE))


def check_carried(folder: Path) -> None:
    """Look at the documents beside a model that no loader of ours reads, and loaders of the result will.

    Raises:
        CheckpointError: one is nested so deeply that no loader gets past it; or as `carried_files` does.
    """
    for name in OTHER_FILES.intersection(carried_in(folder)):
        try:
            json.loads((folder / name).read_bytes())
        except RecursionError as error:
            raise CheckpointError(f"{name}: is nested too deeply to be read") from error
        except (OSError, ValueError):
            continue  # loaders pass over what is no JSON; a template is none


def copy_carried(source: Path, destination: Path) -> None:
    """Copy what belongs to the model of a folder beside its weights and config.json.

    Raises:
        CheckpointError: as `carried_files` does.
        StorageError: the disk is full.
    """
    for name in carried_in(source):
        target = destination / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
        except OSError as error:
            raise StorageError(f"{name} could not be copied: {error.strerror}") from error


def module_folders(modules: Any) -> tuple[str, ...]:
    """Return the folders of the parts that `modules.json` lists, without those that lie at the top.

    Raises:
        CheckpointError: it is no list of parts, or leads out of the folder.
    """
    if modules is None:
        return ()
    if not isinstance(modules, list) or not all(isinstance(row, dict) for row in modules):
        raise CheckpointError(f"{MODULES_FILE}: is no list of modules")
    paths = [row.get("path", "") for row in modules]
    found = [path.rstrip("/") if isinstance(path, str) else path for path in paths]
    wrong = next((path for path in found if not isinstance(path, str) or (path and not is_inside(path))), None)
    if wrong is not None:
        raise CheckpointError(f"{MODULES_FILE}: names {wrong!r}, which is no folder of this model")
    return tuple(path for path in found if path)


def is_legal(name: str) -> bool:
    """Tell whether a file at the top of a repository holds terms that travel with derivatives."""
    return any(fnmatchcase(name, pattern) for pattern in LEGAL_PATTERNS) and not name.endswith(RUNS)


def is_inside(path: str) -> bool:
    """Tell whether a relative path stays in its folder and is no hidden file and no option of a command."""
    parts = PurePosixPath(path).parts
    plain = bool(parts) and "\\" not in path and "/".join(parts) == path
    return plain and not any(part.startswith((".", "-", "/")) for part in parts)


def _read_modules(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{MODULES_FILE}: cannot be read as JSON: {error}") from error


def _is_carried(name: str) -> bool:
    folder, _, leaf = name.rpartition("/")
    if folder:
        return folder == TEMPLATES_FOLDER and leaf.endswith(".jinja")
    is_known = name in TOKENIZER_FILES or name in OTHER_FILES or is_legal(name)
    return is_known or any(fnmatchcase(name, pattern) for pattern in _PATTERNS)


def _folder_of(name: str, folders: tuple[str, ...]) -> str | None:
    return next((folder for folder in folders if name.startswith(f"{folder}/")), None)


def _is_safe(name: str) -> bool:
    return name.endswith(".safetensors")
