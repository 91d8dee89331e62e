"""One training in a process of its own: `python -m tests.srr_core.tuners.training_target START ROWS FOLDER`.

With RANK and RENDEZVOUS in the environment it is one of two that train together, without dropout.
"""

import os
import sys
from pathlib import Path

from torch import distributed

from tests.srr_core.tuners.test_training import training


def main(start: str, rows: str, folder: str) -> None:
    if "RANK" not in os.environ:
        training(Path(start), Path(rows), Path(folder)).run()
        return
    # What gloo binds to; the name of this machine may lead elsewhere.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{os.environ['RENDEZVOUS']}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=int(os.environ["RANK"]), world_size=2)
    training(Path(start), Path(rows), Path(folder), dropout=0.0).run()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
