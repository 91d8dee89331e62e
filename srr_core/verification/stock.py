"""What stock transformers can do with packed weights of a model, asked of it before there are any."""

from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.quantizers.quantizer_compressed_tensors import CompressedTensorsHfQuantizer
from transformers.utils.quantization_config import CompressedTensorsConfig

_ANY = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}


def reads_packed(model: PreTrainedModel) -> bool:
    """Whether stock loaders get as far as reading packed weights of this class.

    transformers (5.23) gives up on classes that cut one tensor of an old checkpoint into several: it cannot make the
    rules for packed weights from their rules for dense ones.
    """
    written = CompressedTensorsConfig(
        config_groups={"group_0": {"targets": ["Linear"], "weights": _ANY}}, format="pack-quantized", dequantize=True
    )
    try:
        quantizer: Any = CompressedTensorsHfQuantizer(written)
        quantizer.validate_environment()
        quantizer.update_weight_conversions(get_model_conversion_mapping(model), model)
    except ValueError:
        return False
    return True
