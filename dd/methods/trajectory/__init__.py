"""Trajectory matching: one loop, and the papers as its fields."""
