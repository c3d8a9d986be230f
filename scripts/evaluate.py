"""Evaluate a saved set: `python scripts/evaluate.py PATH DATA [options]`."""

import sys

from dd.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["evaluate", *sys.argv[1:]]))
