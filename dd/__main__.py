"""`python -m dd` is `ddistill`."""

from dd.cli import main

raise SystemExit(main())
