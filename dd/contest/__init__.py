"""A set beside its baselines under one protocol: `evaluate` and `benchmark`."""
