"""What checkpoints and transformers call the experts of a mixture."""

GATE_UP, DOWN = FUSED = ("gate_up_proj", "down_proj")
"""The fused parameters, [experts, 2 x inner, hidden] and [experts, hidden, inner], as transformers calls them."""
ON_DISK = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
"""What checkpoints call gate, up and down; the second is Mixtral's spelling."""
RENAMED = (".block_sparse_moe.", ".mlp.")
"""Mixtral's module on disk and in transformers 5."""
