"""The one table of which path serves which layer, in order of preference."""

from srr_core.kernels.int4pack_path import Int4PackPath
from srr_core.kernels.lattice_path import LatticePath
from srr_core.kernels.native_path import NativePath
from srr_core.kernels.paths import Case, MatmulPath
from srr_core.kernels.plain_path import PlainPath
from srr_core.kernels.tiled_path import TiledPath
from srr_core.kernels.triton_path import TritonPath

PATHS: tuple[type[MatmulPath], ...] = (Int4PackPath, TritonPath, NativePath, TiledPath, LatticePath, PlainPath)


def choose_path(case: Case) -> MatmulPath:
    """Return the first path of the table that serves a layer; the last one serves every layer."""
    return next(path for path in PATHS if path.serves(case))(case)


def dispatch_table() -> list[tuple[str, str]]:
    """Return (path, what it serves) for people, in the order the paths are tried."""
    return [(path.name, path.serves_text) for path in PATHS]
