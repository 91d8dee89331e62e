"""vLLM and SGLang on a recipe, as their wheels read: bits, groups, shapes, ranks, and what to start them with.

Nothing here was run on a GPU. The plugin's layers were run in vLLM's own model on a CPU.
"""

from srr_core.recipe.verdicts import Asked, CompatibilityRow, either, odd_shape, verdict_by_source

VLLM_READ = "vllm 0.33.0, 2026-11-28"
SGLANG_READ = "sglang 0.5.23, 2026-11-28"

MARLIN_BITS = (4, 8)
MARLIN_ZERO_POINT_BITS = (4,)
MARLIN_GROUPS = (32, 64, 128)
SGLANG_OUT_MULTIPLE = 64
SGLANG_IN_MULTIPLE = 128
VLLM_CPU_BITS = 4
VLLM_CPU_MULTIPLE = 32
VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
PLAIN_WORD_BITS = (2, 4, 8)
"""Bits that every version of compressed-tensors packs alike."""

_VLLM_READS_ONE = (
    "it has served no encoder-decoder that reads text since 0.11; BART, mBART and Florence-2 need its bart-plugin, "
    "which was not tried with packed weights"
)
_SGLANG_READS_ONE = "it serves no encoder-decoder that reads text; those it has, as Whisper, hear or see"

MARLIN = "vLLM, Marlin kernel (GPU)"
HUMMING = "vLLM, Humming kernel (GPU)"
VLLM_CPU = "vLLM (CPU)"
VLLM_PLUGIN = "vLLM with the srr plugin (Q + L·R)"
VLLM_LORA = "vLLM --enable-lora (L·R)"
SGLANG = "SGLang"


def vllm_rows(asked: Asked, stock: str | None) -> tuple[CompatibilityRow, ...]:
    """Return vLLM's verdicts: on Q by kernel, then on L·R by each of the two ways.

    Args:
        stock: Why compressed-tensors cannot hold the result, or None.
    """
    if asked.is_encoder_decoder:
        names = (MARLIN, HUMMING, VLLM_CPU, VLLM_PLUGIN, VLLM_LORA)
        return tuple(verdict_by_source(name, _VLLM_READS_ONE, "", VLLM_READ) for name in names)
    return (_marlin(asked, stock), _humming(stock), _vllm_cpu(asked, stock), _plugin(asked, stock), _lora(asked, stock))


def _marlin(asked: Asked, stock: str | None) -> CompatibilityRow:
    obstacle = stock or _marlin_obstacle(asked)
    reason = "bits and groups are in its list; shapes that do not fit its tiles are padded"
    return verdict_by_source(MARLIN, obstacle, reason, VLLM_READ)


def _marlin_obstacle(asked: Asked) -> str | None:
    grid = asked.grid
    if grid is None:
        return None
    if grid.num_bits not in MARLIN_BITS:
        return f"takes {either(MARLIN_BITS)} bits, not {grid.num_bits}"
    if not grid.is_symmetric and grid.num_bits not in MARLIN_ZERO_POINT_BITS:
        return f"takes zero points with 4 bits, not with {grid.num_bits}"
    if grid.group_size not in MARLIN_GROUPS:
        return f"takes groups of {either(MARLIN_GROUPS)}, not {grid.group_size}"
    return None


def _humming(stock: str | None) -> CompatibilityRow:
    reason = "takes 2 to 8 bits, any group and, since 0.33, zero points; comes last, where no other kernel fits"
    return verdict_by_source(HUMMING, stock, reason, VLLM_READ)


def _vllm_cpu(asked: Asked, stock: str | None) -> CompatibilityRow:
    obstacle = stock
    if asked.grid is not None and obstacle is None:
        obstacle = (
            f"takes {VLLM_CPU_BITS} bits, not {asked.grid.num_bits}"
            if asked.grid.num_bits != VLLM_CPU_BITS
            else odd_shape(asked.sizes, VLLM_CPU_MULTIPLE, VLLM_CPU_MULTIPLE)
        )
    return verdict_by_source(VLLM_CPU, obstacle, "4 bits in even groups are in its list", VLLM_READ)


def _plugin(asked: Asked, stock: str | None) -> CompatibilityRow:
    if asked.rank == 0:
        reason = "rank 0: there is no L·R to add"
        return CompatibilityRow(runtime=VLLM_PLUGIN, verdict="yes", reason=reason, evidence="run")
    obstacle = stock
    if obstacle is None and asked.has_experts:
        obstacle = "L·R of experts is not added inside their layers yet; use --enable-lora"
    reason = (
        "pip install srr-compression beside vLLM, then vllm serve REPOSITORY, no flag; vLLM's own model on a CPU gives "
        "our logits, with one, two and four processes; no kernel of a GPU was run"
    )
    return CompatibilityRow(
        runtime=VLLM_PLUGIN,
        verdict="no" if obstacle else "untested",
        reason=obstacle or reason,
        evidence="trial",
        versions=VLLM_READ,
    )


def lora_flag(adapter_rank: int) -> int | None:
    """Return the smallest `--max-lora-rank` of vLLM that takes an adapter, or None where none does.

    Args:
        adapter_rank: The largest rank in the file.
    """
    return next((allowed for allowed in VLLM_LORA_RANKS if allowed >= adapter_rank), None)


def _lora(asked: Asked, stock: str | None) -> CompatibilityRow:
    if asked.rank == 0:
        return CompatibilityRow(runtime=VLLM_LORA, verdict="yes", reason="rank 0: there is no adapter", evidence="run")
    flag = lora_flag(asked.adapter_rank)
    obstacle = stock
    if obstacle is None and flag is None:
        doubled = ", twice the recipe's for gate and up of experts" if asked.has_experts else ""
        obstacle = (
            f"the adapter's largest rank is {asked.adapter_rank}{doubled}; it takes {VLLM_LORA_RANKS[-1]} at most"
        )
    return verdict_by_source(
        VLLM_LORA, obstacle, f"start it with --max-lora-rank {flag}; {_repeatable(asked)}", VLLM_READ
    )


def _repeatable(asked: Asked) -> str:
    drift = "its sums over an adapter are not repeatable (vllm #50059)"
    if asked.grid is not None and asked.grid.num_bits not in PLAIN_WORD_BITS:
        return f"{drift}, and VLLM_BATCH_INVARIANT=1, the cure, cannot unpack {asked.grid.num_bits} bits"
    return f"{drift} unless VLLM_BATCH_INVARIANT=1, which dequantizes for every product and costs the speed"


def sglang_row(asked: Asked, stock: str | None) -> CompatibilityRow:
    """Return SGLang's verdict."""
    obstacle = _SGLANG_READS_ONE if asked.is_encoder_decoder else stock or _sglang_obstacle(asked)
    reason = "bits, groups and shapes are in its list; L·R by --lora-paths, scaled by alpha / r"
    return verdict_by_source(SGLANG, obstacle, reason, SGLANG_READ)


def _sglang_obstacle(asked: Asked) -> str | None:
    grid = asked.grid
    if grid is None:
        return None
    if grid.num_bits not in MARLIN_BITS:
        return f"takes {either(MARLIN_BITS)} bits, not {grid.num_bits}; export merged instead"
    if grid.group_size not in MARLIN_GROUPS:
        return f"takes groups of {either(MARLIN_GROUPS)}, not {grid.group_size}"
    return odd_shape(asked.sizes, SGLANG_OUT_MULTIPLE, SGLANG_IN_MULTIPLE)
