"""Campaigns: many seeded trials of what can go wrong, one line of JSON each. `python -m scripts.campaigns` runs all."""
