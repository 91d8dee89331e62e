"""The C kernels, compiled once per process by the machine's own compiler and only when asked for.

Nothing is downloaded and nothing is kept: the library lies in a private temporary folder until the process ends.
"""

import ctypes
import logging
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from srr_core.kernels.planes import plane_widths

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("native.c")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = (
    "-O3",
    "-march=native",
    # Sums may be reordered. Not -ffast-math, which would flush subnormals in the whole process.
    "-fassociative-math",
    "-fno-signed-zeros",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-shared",
    "-fPIC",
)
_COMPILE_SECONDS = 60
_MAX_PLANES = 4
_PARALLEL_WEIGHTS = 1 << 20
"""Below this a layer is done before threads have started."""


class _Weight(ctypes.Structure):
    _fields_ = (
        ("planes", ctypes.c_void_p * _MAX_PLANES),
        ("widths", ctypes.c_int32 * _MAX_PLANES),
        ("count", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("groups", ctypes.c_int32),
        ("offset", ctypes.c_int32),
        ("zero_points", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    )


@lru_cache(maxsize=1)
def native_library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where there is no working compiler; the reason is logged once."""
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        logger.warning("native_kernels_unavailable", extra={"reason": "no C compiler on PATH"})
        return None
    with tempfile.TemporaryDirectory(prefix="srr-native-") as folder:
        target = Path(folder) / "native.so"
        command = [compiler, *_FLAGS, "-o", str(target), str(_SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_SECONDS)
            # The mapping stays valid after the file is gone.
            return ctypes.CDLL(str(target))
        except (OSError, subprocess.SubprocessError) as error:
            logger.warning("native_kernels_unavailable", extra={"reason": str(error)})
            return None


class NativeWeight:
    """A weight in bit planes as the kernels take it; holds the tensors it points to."""

    def __init__(
        self, library: ctypes.CDLL, planes: list[Tensor], scale: Tensor, zero_point: Tensor | None, num_bits: int
    ) -> None:
        self._library = library
        self._held = (planes, scale.to(torch.float32).contiguous(), zero_point)
        self.rows, self.groups = scale.shape
        self.columns = planes[0].shape[1] * 8 // plane_widths(num_bits)[0]
        weight = _Weight(count=len(planes), columns=self.columns, groups=self.groups, offset=1 << (num_bits - 1))
        for index, (plane, width) in enumerate(zip(planes, plane_widths(num_bits), strict=True)):
            weight.planes[index] = plane.data_ptr()
            weight.widths[index] = width
        weight.scales = self._held[1].data_ptr()
        weight.zero_points = None if zero_point is None else zero_point.data_ptr()
        self._weight = weight

    def decode(self, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` in float32, columns in planar order."""
        out = torch.empty((stop - start, self.columns))
        codes, zeros = self._scratch()
        self._library.srr_decode(
            ctypes.byref(self._weight), _int(start), _int(stop), _pointer(out), _pointer(codes), _pointer(zeros)
        )
        return out

    def multiply(self, x: Tensor) -> Tensor:
        """Return x·Wᵀ in float32 for a few rows of float32 x, columns in planar order."""
        x = x.contiguous()
        y = torch.empty((x.shape[0], self.rows))
        threads = torch.get_num_threads() if self.rows * self.columns >= _PARALLEL_WEIGHTS else 1
        cuts = [self.rows * part // threads for part in range(threads + 1)]
        if threads == 1:
            self._multiply_rows(x, y, 0, self.rows)
            return y
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda span: self._multiply_rows(x, y, *span), pairwise(cuts)))
        return y

    def _multiply_rows(self, x: Tensor, y: Tensor, start: int, stop: int) -> None:
        codes, zeros = self._scratch()
        self._library.srr_multiply(
            ctypes.byref(self._weight),
            _int(start),
            _int(stop),
            _pointer(x),
            _int(x.shape[0]),
            _pointer(y),
            _int(y.shape[1]),
            _pointer(codes),
            _pointer(zeros),
        )

    def _scratch(self) -> tuple[Tensor, Tensor]:
        return torch.empty(self.columns, dtype=torch.uint8), torch.empty(self.groups)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _int(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)
