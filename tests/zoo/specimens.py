"""The classes of transformers' automatic tables, each small enough to be compressed in seconds.

A specimen is the default configuration of a class made small by `srr_core.models.miniature`. Where sizes depend on
each other in ways that no name tells, `CHANGES` says what fits; where published models have a shape that the default
does not show, `VARIANTS` adds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformers.models.auto import modeling_auto as auto

from srr_core.models.miniature import CHOSEN, EXPERTS, HEAD, HEADS, INNER, KEY_HEADS, VOCABULARY, WIDTH, WINDOW

_CLASSIFIERS = frozenset(
    {
        *("bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "modernbert", "electra", "albert", "mpnet"),
        *("eurobert", "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "gpt2", "phi3", "qwen3_moe"),
        "mixtral",
    }
)
_EMBEDDERS = {
    "bert": "BertModel",
    "clip_text_model": "CLIPTextModel",
    "distilbert": "DistilBertModel",
    "gemma3_text": "Gemma3TextModel",
    "gte": "GteModel",
    "llama": "LlamaModel",
    "mistral": "MistralModel",
    "modernbert": "ModernBertModel",
    "mpnet": "MPNetModel",
    "nomic_bert": "NomicBertModel",
    "qwen2": "Qwen2Model",
    "qwen3": "Qwen3Model",
    "roberta": "RobertaModel",
    "t5": "T5EncoderModel",
    "xlm-roberta": "XLMRobertaModel",
}
GROUPS: Mapping[str, Mapping[str, Any]] = {
    "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "image-text": auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    "masked": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "classifier": {
        kind: name
        for kind, name in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.items()
        if kind in _CLASSIFIERS
    },
    "embedder": _EMBEDDERS,
    "encoder-decoder": {
        **auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        **auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    },
}

PUBLISHED_INNER = 4 * WIDTH
"""Of feed-forward layers, where what is kept of a block is large beside a narrow one."""
_HEADS = {"head_dim": HEAD, "num_key_value_heads": KEY_HEADS}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_THREE_WAYS = {**_ROPE, "mrope_section": [2, 3, 3]}
_THREE_WAYS_IN_HALF = {**_ROPE, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
_BY_TURNS = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}
_SHARING = {
    # The last blocks take keys and values of earlier ones, and every block has inputs of its own.
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": VOCABULARY,
    "intermediate_size": INNER,
}
_ROUTED = {"n_routed_experts": EXPERTS, "num_experts_per_tok": CHOSEN, "topk_group": 1, "n_group": 1}
_COMPASS = {"rope_parameters": {"full_attention": _ROPE}}
_INDEXED = {
    "indexer_n_heads": HEADS,
    "indexer_kv_heads": 1,
    "indexer_head_dim": HEAD,
    "indexer_budget": WINDOW,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 16,
    "ple_embed_dim": WIDTH,
    "ngram_vocab_size_base": 100,
    "make_ngram_vocab_size_divisible_by": 1,
    "split_ngram_parts": 1,
    "heads_per_ngram": 2,
}
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "chameleon": {
        "vocabulary_map": {"<image>": 5} | {f"IMGIMG{letter}Z": 6 + n for n, letter in enumerate("ABCDEFGH")}
    },
    "cohere_compass": {"text_config": _COMPASS},
    "cohere_compass_text": _COMPASS,
    "convbert": {"intermediate_size": PUBLISHED_INNER},
    "cpmant": {"dim_ff": INNER},
    "dbrx": {
        "attn_config": {"rope_theta": 10_000.0, "kv_n_heads": KEY_HEADS, "clip_qkv": 8.0},
        "ffn_config": {
            "ffn_hidden_size": INNER,
            "moe_num_experts": EXPERTS,
            "moe_top_k": CHOSEN,
            "ffn_act_fn": {"name": "silu"},
        },
    },
    "deepseek_v2": _ROUTED,
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": CHOSEN}},
    "diffusion_gemma": {
        "text_config": {"num_experts": EXPERTS, "top_k_experts": CHOSEN, "moe_intermediate_size": INNER}
    },
    "dots1": {**_ROUTED, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": WIDTH // 4}},
    "funnel": {"d_inner": PUBLISHED_INNER, "d_head": HEAD},
    "gemma3n_text": {**_SHARING, "laurel_rank": 16, "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0]},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "gemma4_text": {**_SHARING, "global_head_dim": 32},
    "gemma4_unified_text": {"global_head_dim": 32},
    "glm46v": {"text_config": {"rope_parameters": _THREE_WAYS_IN_HALF}},
    "glm4v": {"text_config": {"rope_parameters": _THREE_WAYS_IN_HALF}},
    "glm4v_moe": {"text_config": {"rope_parameters": _THREE_WAYS_IN_HALF}},
    "glm_ocr": {"text_config": {"rope_parameters": _THREE_WAYS}},
    "glmga": {"text_config": {"rope_parameters": _THREE_WAYS_IN_HALF}},
    "gpt_neo": {
        "num_layers": 2,
        "attention_layers": ["global", "local"],
        "attention_types": [[["global", "local"], 1]],
    },
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": _HEADS,
    "hunyuan_v1_moe": _HEADS,
    "hunyuan_vl": {"text_config": {**_HEADS, "rope_parameters": _THREE_WAYS}},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "kimi_linear": {"linear_head_dim": 2 * HEAD},  # inputs of its gates, which a group has to divide
    "lfm2_moe": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama4_text": {
        "intermediate_size_mlp": INNER,
        "moe_layers": [0, 1],
        "num_hidden_layers": 2,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
    },
    "longcat_flash": {"zero_expert_num": 2, "head_dim": HEAD // 2, "qk_head_dim": HEAD + HEAD // 2},
    "mamba2": {"num_heads": 2 * WIDTH // HEAD, "head_dim": HEAD},
    "emu3": {
        "vocabulary_map": {"<image>": 5} | {f"<|visual token {n:06d}|>": 6 + n for n in range(8)},
        "vq_config": {"base_channels": 32, "channel_multiplier": [1, 1]},
    },
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [3, 3, 2]}}},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 1, "mask_token_id": 2},
    "esmc": {"vocab_size": VOCABULARY},
    "falcon_h1": {"mamba_n_heads": 2 * WIDTH // HEAD, "mamba_d_head": HEAD, "mamba_d_ssm": 2 * WIDTH},
    "minimax": {"block_size": WINDOW},  # of its tables of decay, which are small beside published blocks
    "ministral": _HEADS,
    "mobilebert": {"embedding_size": WIDTH, "intra_bottleneck_size": WIDTH, "true_hidden_size": WIDTH},
    "molmo2": {"adapter_config": {"vision_feature_layer": [2, 1]}},
    "nemotron": _HEADS,
    "paddleocr_vl": {"text_config": {"rope_parameters": _THREE_WAYS}},
    "perceiver": {"num_latents": WINDOW, "d_latents": WIDTH, "num_self_attends_per_block": 2},
    "qwen2_5_omni_thinker": {"text_config": {"rope_parameters": _THREE_WAYS}},
    "qwen2_5_vl": {"text_config": {"rope_parameters": _THREE_WAYS}},
    "qwen2_5_vl_text": {"rope_parameters": _THREE_WAYS},
    "qwen2_vl": {"text_config": {"rope_parameters": _THREE_WAYS}},
    "qwen2_vl_text": {"rope_parameters": _THREE_WAYS},
    "qwen4_exp": {"text_config": _INDEXED},
    "qwen4_exp_text": _INDEXED,
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": [32, 32]},
    "step3p7": {"text_config": {"sliding_window": WINDOW}},
    "xlnet": {"d_head": HEAD},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
"""By model type, fields that the rules cannot guess."""
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "gemma4_text": {
        "dense": {**_BY_TURNS, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0},
        "mixture": {
            **_BY_TURNS,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": EXPERTS,
            "top_k_experts": CHOSEN,
            "moe_intermediate_size": INNER,
        },
    },
    "llama": {"tied": {"tie_word_embeddings": True}},
    "qwen3_5_moe_text": {"stacked": {}},
    "qwen3_moe": {"stacked": {}},
}
"""By model type, shapes of a class that are published; `stacked` has the experts of a block in one tensor on disk."""
STACKED = "stacked"


@dataclass(frozen=True)
class Specimen:
    """One class, and what its configuration changes."""

    group: str
    model_type: str
    class_name: str
    variant: str = ""

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.model_type}+{self.variant}" if self.variant else self.model_type


def specimens(groups: Mapping[str, Mapping[str, Any]] = GROUPS) -> Iterator[Specimen]:
    """Yield every class of the groups, then every variant."""
    for group, members in groups.items():
        for model_type, names in members.items():
            yield Specimen(group, model_type, names if isinstance(names, str) else names[0])
    for model_type, variants in VARIANTS.items():
        for variant in variants:
            yield Specimen("variant", model_type, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type], variant)
