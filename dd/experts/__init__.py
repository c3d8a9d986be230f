"""Expert trajectories: recipes, training steps and the store."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

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

if TYPE_CHECKING:
    from dd.experts.names import recipe_names
    from dd.experts.recipe import ExpertRecipe, load_recipe
    from dd.experts.store import ExpertStore
    from dd.experts.train import ExpertTrainer, Snapshot, check_model, make_student
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.experts.names": "recipe_names",
            "dd.experts.recipe": "ExpertRecipe load_recipe",
            "dd.experts.store": "ExpertStore",
            "dd.experts.train": "ExpertTrainer Snapshot check_model make_student",
        },
    )
