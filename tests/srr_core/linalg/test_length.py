"""The Frobenius norm does not depend on how many values there are, nor on their scale."""

import pytest
import torch

from srr_core.linalg.length import length


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4096, 2560)])
def test_the_norm_of_equal_values_is_their_size_times_the_root_of_their_number(
    shape: tuple[int, int], scale: float
) -> None:
    value = torch.tensor(0.1 * scale)
    expected = float(value.double()) * (shape[0] * shape[1]) ** 0.5
    assert length(value.expand(shape)) == pytest.approx(expected, rel=1e-9)
