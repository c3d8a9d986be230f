"""Run every campaign of this package, each in a process of its own, and keep its line of JSON.

    python -m scripts.campaigns [--share 1] [--seed 0] [--only crash,concurrent]

Lines are written to `scripts/records/campaigns/NAME.json`; `docs/reliability.md` is made from them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from dd.base.files import write_text
from scripts.campaigns.common import table

NAMES: Final = ("crash", "concurrent", "corrupt", "disk", "hostile")
RECORDS: Final = Path(__file__).resolve().parents[1] / "records" / "campaigns"


def main() -> int:
    """Run them; 1 where one had a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", default="1")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--only", default=",".join(NAMES))
    options = parser.parse_args()
    records, clean = [], True
    for name in options.only.split(","):
        words = [sys.executable, "-W", "ignore", "-m", f"scripts.campaigns.{name}"]
        words += ["--share", options.share, "--seed", options.seed]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        clean = clean and done.returncode == 0
        line = done.stdout.strip().rpartition("\n")[2]
        records.append(json.loads(line))
        if float(options.share) == 1:
            write_text(RECORDS / f"{name}.json", line + "\n")
        print(line, flush=True)
    print(table(records), file=sys.stderr)
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
