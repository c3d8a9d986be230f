"""Expert trajectories: recipes, training steps and the store."""

from dd.experts.recipe import ExpertRecipe, load_recipe, recipe_names
from dd.experts.store import ExpertStore
from dd.experts.train import ExpertTrainer, Snapshot, check_model, make_student

__all__ = [
    "ExpertRecipe",
    "ExpertStore",
    "ExpertTrainer",
    "Snapshot",
    "load_recipe",
    "check_model",
    "make_student",
    "recipe_names",
]
