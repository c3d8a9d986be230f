"""`python -m dd` is `ddistill`."""

from dd.cli.main import main

if __name__ == "__main__":  # what a spawned worker imports again
    raise SystemExit(main())
