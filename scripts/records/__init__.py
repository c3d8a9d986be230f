"""What was measured: `results/` holds it, `make/` measures it, `tables/` shows it, `kept.py` reads and writes it."""
