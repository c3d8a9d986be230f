"""Synthetic sets: the protocol, image sets and their files."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "AnySet",
    "CompensatedImages",
    "ImageSet",
    "digest_of",
    "from_tensors",
    "load_set",
    "need_images",
    "need_set",
    "need_trees",
    "set_at",
    "to_tensors",
    "Crops",
    "base_sets",
    "batch_ids",
    "compose",
    "most_compensators",
    "LabelRecord",
    "LabelStore",
    "Layout",
    "NBytes",
    "Storage",
    "Stored",
    "NodeBytes",
    "NodeRecipe",
    "NodeSet",
    "stored_bytes",
    "SyntheticImages",
    "SyntheticSet",
    "TrainRecipe",
    "TreeBytes",
    "TreeRecipe",
    "TreeSummary",
    "Level",
    "draw_crops",
    "tile",
]

if TYPE_CHECKING:
    from dd.synthetic.base import NBytes, NodeBytes, SyntheticSet, TreeBytes
    from dd.synthetic.canvas import Crops, draw_crops, tile
    from dd.synthetic.compensated import CompensatedImages, base_sets, compose, most_compensators
    from dd.synthetic.images import SyntheticImages
    from dd.synthetic.labels import LabelRecord, LabelStore, batch_ids
    from dd.synthetic.layout import Layout, Storage, Stored
    from dd.synthetic.node_recipe import NodeRecipe
    from dd.synthetic.node_store import stored_bytes
    from dd.synthetic.nodes import NodeSet
    from dd.synthetic.recipe import TrainRecipe
    from dd.synthetic.sets import (
        AnySet,
        ImageSet,
        digest_of,
        from_tensors,
        load_set,
        need_images,
        need_set,
        need_trees,
        set_at,
        to_tensors,
    )
    from dd.synthetic.tree_recipe import TreeRecipe
    from dd.synthetic.trees import Level, TreeSummary
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.synthetic.base": "NBytes NodeBytes SyntheticSet TreeBytes",
            "dd.synthetic.canvas": "Crops draw_crops tile",
            "dd.synthetic.compensated": "CompensatedImages base_sets compose most_compensators",
            "dd.synthetic.images": "SyntheticImages",
            "dd.synthetic.labels": "LabelRecord LabelStore batch_ids",
            "dd.synthetic.layout": "Layout Storage Stored",
            "dd.synthetic.node_recipe": "NodeRecipe",
            "dd.synthetic.node_store": "stored_bytes",
            "dd.synthetic.nodes": "NodeSet",
            "dd.synthetic.recipe": "TrainRecipe",
            "dd.synthetic.sets": (
                "AnySet ImageSet digest_of from_tensors load_set need_images need_set need_trees set_at to_tensors"
            ),
            "dd.synthetic.tree_recipe": "TreeRecipe",
            "dd.synthetic.trees": "Level TreeSummary",
        },
    )
