"""Distil: `python scripts/distill.py DATA METHOD [options]`."""

import sys

from dd.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["distill", *sys.argv[1:]]))
