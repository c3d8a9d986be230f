"""The recipes that come with the library, by name."""

from __future__ import annotations

from dd.base.home import shipped


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in shipped("expert_trajectories").glob("*.toml"))
