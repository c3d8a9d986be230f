"""The tables of `docs/results.md`, `docs/results/` and the README, from the records."""
