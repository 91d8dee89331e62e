"""The Q + L·R linear layer with its weight packed in memory, and its registration with transformers.

Importing this package is what registers it: afterwards plain `from_pretrained` keeps our artifacts packed.
"""

from srr_core.kernels.dispatch import dispatch_table
from srr_core.runtime.integration import register
from srr_core.runtime.linear import PackedLinear
from srr_core.runtime.loading import load

register()

__all__ = ["PackedLinear", "dispatch_table", "load", "register"]
