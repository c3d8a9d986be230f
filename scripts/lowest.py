"""Make an environment of the lowest versions that setup.py allows: `python scripts/lowest.py .venv-lowest`.

It stands on the environment that runs this script, whose torch, torchvision and test tools it shares: another pair of
torch and torchvision would take 5 GB. Run by `make test-lowest`.
"""

import site
import subprocess
import sys
import venv
from importlib.metadata import requires
from pathlib import Path

SHARED = ("torch", "torchvision")


def main() -> int:
    """Make it; the exit code is pip's."""
    target = Path(sys.argv[1]).absolute()
    venv.create(target, clear=True, with_pip=True)
    packages = target / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    base = site.getsitepackages()[0]
    (packages / "zz_base.pth").write_text(f"import site; site.addsitedir({base!r})\n", encoding="utf-8")
    core = [line.split(">=") for line in requires("dd-distillation") or () if "extra ==" not in line]
    lowest = [f"{name}=={version}" for name, version in core if name not in SHARED]
    print("lowest versions:", ", ".join(lowest))
    command = [str(target / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *lowest]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
