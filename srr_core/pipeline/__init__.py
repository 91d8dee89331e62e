"""From a source checkpoint and a recipe to a verified artifact and its report."""

from srr_core.pipeline.compress import compress
from srr_core.pipeline.inspection import Inspection, estimate_seconds, inspect_model, operations_per_second

__all__ = ["Inspection", "compress", "estimate_seconds", "inspect_model", "operations_per_second"]
