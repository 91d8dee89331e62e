"""By which names the parts of an artifact are found: its files, the tensors of L and R, and our entry in config.json.

Nothing but names, so that a plugin inside another server reads them without our other packages.
"""

MARKER = "srr"
"""Key of our entry beside compressed-tensors' own, and the `quant_method` of the layout only we can read."""
MARKER_VERSION = 1
BARE = "without_low_rank"
"""Key of our entry that lists the layers without L·R."""
PATHS = "paths"
"""Key of our entry that maps names in the files to paths in the model, where stock loaders rename in between."""
COMPRESSED_TENSORS = "compressed-tensors"
BARE = "without_low_rank"
"""Key of our entry that lists the layers without L·R."""
PATHS = "paths"
"""Key of our entry that maps names in the files to paths in the model, where stock loaders rename in between."""

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_PREFIX = "base_model.model."
"""PEFT's, before the name of a module."""
STACKS = "stacks"
"""Key of our entry that lists stacked parameters, each with whether its matrices are stored [inputs, outputs]."""
STACKED_LEFT, STACKED_RIGHT = "left", "right"
"""Behind the name of one matrix of a stack: L and R, beside its codes since no adapter has a place for them."""
RIGHT_SUFFIX = ".lora_A.weight"
LEFT_SUFFIX = ".lora_B.weight"


def factor_names(module_name: str) -> tuple[str, str]:
    """Return the names of R and of L of one layer in the adapter's file."""
    return f"{ADAPTER_PREFIX}{module_name}{RIGHT_SUFFIX}", f"{ADAPTER_PREFIX}{module_name}{LEFT_SUFFIX}"
