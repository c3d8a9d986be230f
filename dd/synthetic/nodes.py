"""`NodeSet`: a small graph with labelled nodes, on which a network is trained that classifies those of a large one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dd.base.files import packed_size, shapes_of
from dd.base.paths import as_path
from dd.base.process import under_own_settings
from dd.base.schema import SET_FORMAT
from dd.base.shapes import check_finite, check_names
from dd.base.texts import a_class
from dd.data.nodes.graph import NodeGraph
from dd.errors import DamagedError, DDError, refuse
from dd.synthetic.base import NodeBytes, Whole
from dd.synthetic.common import Common, moved, one_line
from dd.synthetic.file import Kept, only, read_set, write_set
from dd.synthetic.labels import LabelStore
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.node_store import DENSE, REST, SPARSE, pack_graph, size_of, unpack_graph
from dd.synthetic.recipe import check_whole_recipe

KIND: Final = "nodes"


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class NodeSet(Common, Whole):
    """A graph of n nodes, F features and K classes. A graph without edges is trained on as with A = I.

    Attributes:
        graph: its features are rounded to float16, in which they are stored; `y` is -1 of nodes not trained on.
        classes: class names in label order.
        recipe: how networks are trained on it.
        method: what made it, with its fields.
        provenance: data set, its hash, split and rule, seed.
        figures: how it was chosen and the like, of `report()`.
        device: where `small[i]`, `batches` and `to_pyg` put what they give; the set itself is on the CPU.
        kept: as in `SyntheticImages`.

    Raises:
        InputError: no labelled node, a label out of range, or features that are not finite in float16.
    """

    kind: ClassVar[Literal["nodes"]] = "nodes"
    store: ClassVar[LabelStore | None] = None
    graph: NodeGraph
    classes: tuple[str, ...]
    recipe: NodeRecipe = field(default_factory=NodeRecipe)
    method: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default=torch.device("cpu"), init=False)
    kept: Kept | None = field(default=None, init=False, repr=False)

    @under_own_settings
    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        y = self.graph.y
        if not bool((y >= 0).any()) or int(y.max()) >= len(self.classes):
            got = "none" if not bool((y >= 0).any()) else int(y.max())
            raise refuse("y", f"0 … {len(self.classes) - 1} of at least one node", got)
        x = check_finite(self.graph.x.half(), "x", "Scale its columns: sets have float16.")
        object.__setattr__(self, "graph", dataclasses.replace(self.graph, x=x.float()))

    def __repr__(self) -> str:
        each = a_class(torch.bincount(self.labels, minlength=self.num_classes).tolist())
        sizes = [f"{len(self):,} nodes", f"{self.graph.num_edges // 2:,} edges", f"{self.graph.x.shape[1]:,} features"]
        return one_line(self, [*sizes, f"{self.num_classes:,} classes", each, f"{self.nbytes.counted:,} bytes counted"])

    def __len__(self) -> int:
        return len(self.graph)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @cached_property
    def rows(self) -> Tensor:
        """The labelled nodes, int64."""
        return (self.graph.y >= 0).nonzero()[:, 0]

    @property
    def labels(self) -> Tensor:
        """Classes of the labelled nodes, int64."""
        return self.graph.y[self.rows]

    @under_own_settings
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(features `[F]`, class or -1) of a node."""
        row = range(len(self))[index]
        return self.graph.x[row].to(self.device), int(self.graph.y[row])

    @under_own_settings
    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (features, classes) of `size` labelled nodes in an order drawn from `generator`."""
        for part in torch.randperm(len(self.rows), generator=generator).split(size):
            rows = self.rows[part]
            yield self.graph.x[rows].to(self.device), self.graph.y[rows].to(self.device)

    @under_own_settings
    def to_pyg(self) -> Any:
        """It as PyG's `Data`, with a `train_mask` of the labelled nodes."""
        from torch_geometric.data import Data

        graph = self.graph
        made = Data(x=graph.x, edge_index=graph.edge_index, y=graph.y, train_mask=graph.y >= 0)
        return made.to(self.device)

    @under_own_settings
    def report(self) -> str:
        """Nodes, edges and bytes, and how it was chosen."""
        from dd.synthetic.node_views import report

        return report(self)

    @under_own_settings
    def draw(self, path: str | Path | None = None) -> bytes:
        """The graph as a picture, PNG, its nodes coloured by class; written to `path` if given."""
        from dd.synthetic.node_views import draw

        return draw(self, path)

    def _on(self, device: torch.device) -> NodeSet:
        return self if device == self.device else moved(self, device=device)

    def with_recipe(self, **changes: Any) -> NodeSet:
        """The same graph with other fields of the recipe."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, **changes))._on(self.device)

    def _meta(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "format": SET_FORMAT,
            "classes": list(self.classes),
            "features": self.graph.x.shape[1],
            "recipe": dataclasses.asdict(self.recipe),
            "method": dict(self.method),
            "provenance": dict(self.provenance),
            "figures": dict(self.figures),
        }

    @property
    @under_own_settings
    def nbytes(self) -> NodeBytes:
        """Bytes on disk, and those of them that a budget counts."""
        tensors = pack_graph(self.graph, self.num_classes)
        labels, edges = (size_of({name: tensors[name]}) for name in ("y", "edges"))
        counted = size_of(tensors)
        total = packed_size(shapes_of(tensors), self._meta())
        return NodeBytes(counted - labels - edges, edges, labels, total - counted, total, counted)

    @under_own_settings
    def save(self, path: str | Path) -> Path:
        """Write one safetensors file. Equal sets give equal bytes.

        Raises:
            WriteError: the disk refuses; an earlier file is intact.
        """
        return write_set(as_path(path), *self.content())

    @under_own_settings
    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of its file."""
        return pack_graph(self.graph, self.num_classes), self._meta()

    @classmethod
    @under_own_settings
    def load(cls, path: str | Path) -> NodeSet:
        """Read a file of `save`; every checksum is compared, no code is run.

        Raises:
            MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
        """
        content = read_set(as_path(path), KIND, "set of nodes")
        try:
            return cls.assemble(*content)
        except (KeyError, TypeError, ValueError, RuntimeError, DDError) as error:
            raise DamagedError(f"{path} is not a whole set of nodes: {error}.") from error

    @staticmethod
    @under_own_settings
    def assemble(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], store: LabelStore | None) -> NodeSet:
        """The set that gave this `content()`; it has no store."""
        del store
        only(tensors, *(DENSE if "x" in tensors else SPARSE), *REST)
        return NodeSet(
            graph=unpack_graph(tensors, meta["features"], len(meta["classes"])),
            classes=tuple(meta["classes"]),
            recipe=NodeRecipe(**check_whole_recipe(meta["recipe"], NodeRecipe)),
            method=meta["method"],
            provenance=meta["provenance"],
            figures=meta["figures"],
        )
