"""Buffer expert trajectories: `python scripts/buffer.py DATA RECIPE [options]`.

Several processes share one store: `torchrun --nproc-per-node 2 scripts/buffer.py DATA RECIPE`.
"""

import sys

from dd.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["buffer", *sys.argv[1:]]))
