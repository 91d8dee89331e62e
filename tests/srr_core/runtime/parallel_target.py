"""One process of several that train an artifact together: `python -m tests.srr_core.runtime.parallel_target`.

Arguments: artifact, rendezvous file, rank, number of processes, file for the trained factors. One process takes the
examples of all, in as many passes as there are processes.
"""

import os
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from srr_core.runtime import load
from srr_core.runtime.training import trained_parameters

STEPS = 3
EXAMPLES = torch.arange(3, 43).reshape(4, 10)


def main(artifact: str, rendezvous: str, rank: int, world: int, result: str) -> None:
    # What gloo binds to; the name of this machine may lead elsewhere.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    model = load(artifact, trainable=True, dtype=torch.float32)
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained_parameters(model)], lr=1e-3)
    passes = list(EXAMPLES.chunk(2))
    wrapped = model
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
        wrapped = DistributedDataParallel(model)
        passes = [passes[rank]]
    for _ in range(STEPS):
        optimizer.zero_grad()
        for tokens in passes:
            loss = wrapped(input_ids=tokens, labels=tokens).loss / len(passes)
            loss.backward()
        optimizer.step()
    if rank == 0:
        torch.save({name: parameter.detach() for name, parameter in trained_parameters(model)}, result)
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), str(Path(sys.argv[5])))
