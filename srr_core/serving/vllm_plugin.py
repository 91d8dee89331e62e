"""What vLLM calls when it starts: an artifact of ours is then served as Q + L·R, with no flag and no LoRA slot taken.

vLLM calls `register` in each of its processes through the entry point `vllm.general_plugins`. `quant_method` stays
compressed-tensors in the files, so a server without this package serves Q. Read in vLLM 0.33.0; nothing of it was run
on a GPU.
"""

import logging

_LOGGER = logging.getLogger(__name__)


def register() -> None:
    """Make our quantization configuration known to vLLM; a second call changes nothing.

    A version of vLLM whose parts have other places is left as it is, with one warning: other models must start.
    """
    try:
        from srr_core.serving import vllm_layers  # noqa: PLC0415  # imports vLLM, which this module must not need
    except (ImportError, AttributeError) as error:
        _LOGGER.warning(
            "this vLLM is not one that the srr plugin knows; artifacts of srr are served as Q alone: %s", error
        )
        return
    vllm_layers.register()
