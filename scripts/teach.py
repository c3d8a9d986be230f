"""Train teachers: `python scripts/teach.py DATA MODEL… [options]`."""

import sys

from dd.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["teach", *sys.argv[1:]]))
