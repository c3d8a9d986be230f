"""`TreeSummary`: frequent sets of computation trees, stored as a DAG in which equal subtrees are one node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
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
from dd.base.shapes import check_names
from dd.base.texts import a_class
from dd.data.graphs.codes import Codes
from dd.errors import DamagedError, DDError, refuse
from dd.synthetic.base import TreeBytes, Whole
from dd.synthetic.common import Common, moved, narrow, one_line
from dd.synthetic.file import Kept, only, read_set, write_set
from dd.synthetic.labels import LabelStore
from dd.synthetic.recipe import check_whole_recipe
from dd.synthetic.tree_checks import check_summary
from dd.synthetic.tree_recipe import TreeRecipe

KIND: Final = "trees"
_PLAIN: Final = ("leaf_degree", "pattern_ptr", "pattern_tree", "pattern_count", "support", "labels")
_LEVELS: Final = tuple(f"level.{name}" for name in ("sizes", "label", "trunc", "ptr", "child", "edge", "count"))
_CODES: Final = tuple(f"codes.{side}{name}" for side in ("", "edge_") for name in ("table", "sizes", "values"))
_NAMES: Final = (*_PLAIN, "tree_support", "graphs", *_LEVELS, *_CODES)


@final
@dataclass(frozen=True, eq=False)
class Level:
    """The distinct trees of one depth d, n of them, with M runs of equal children in all.

    Attributes:
        label: node label of each root, int64 `[n]`.
        trunc: the tree of depth d - 1 at the same root, a place in the level below, int64 `[n]`. At depth 0 it tells
            leaves of one label apart: their degree with leaf_degree='exact', else 0.
        ptr: int64 `[n + 1]`: tree i has the runs `ptr[i]` … `ptr[i + 1] - 1`.
        child: the child's tree of depth d - 1, int64 `[M]`.
        edge: edge label of the run, int64 `[M]`.
        count: how many equal children, int64 `[M]`.
    """

    label: Tensor
    trunc: Tensor
    ptr: Tensor
    child: Tensor
    edge: Tensor
    count: Tensor

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    @under_own_settings
    def parent(self) -> Tensor:
        """Tree of each run, int64 `[M]`."""
        return torch.repeat_interleave(torch.arange(len(self)), self.ptr.diff())

    @cached_property
    @under_own_settings
    def degree(self) -> Tensor:
        """Children of each root, int64 `[n]`."""
        return torch.zeros(len(self), dtype=torch.int64).index_add_(0, self.parent, self.count)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class TreeSummary(Common, Whole):
    """Patterns over the trees of depth L of a DAG: P patterns, K classes, R trees of depth L.

    Attributes:
        levels: depths 0 … L; the last one holds exactly the trees of the patterns, in canonical order.
        leaf_degree: degree that a leaf stands for, float32, one a tree of depth 0; GCN needs it (see `Mirage`).
        pattern_ptr: int64 `[P + 1]`.
        pattern_tree: trees of each pattern, places in the last level, int64.
        pattern_count: mean multiplicity of that tree in the training graphs that hold the pattern, float32, alike.
        support: training graphs of each class that hold the pattern, int64 `[P, K]`.
        labels: class of which each pattern was mined, int64 `[P]`.
        tree_support: training graphs of each class that hold the tree, int64 `[R, K]`; `[0, K]` if not kept.
        graphs: training graphs of each class, int64 `[K]`.
        codes: what labels mean.
        classes: class names in label order.
        recipe: how networks are trained on it.
        directed: whether trees follow edges one way.
        method: what made it, with its fields.
        provenance: data set, its hash, split and rule, seed.
        published: bytes by the published two-byte count.
        figures: coverage, thresholds and the like, of `report()`.
        device: where `small[i]`, `batches` and `to_pyg` put their graphs; the summary itself is on the CPU.
        kept: as in `SyntheticImages`.
    """

    kind: ClassVar[Literal["graphs"]] = "graphs"
    store: ClassVar[LabelStore | None] = None
    levels: tuple[Level, ...]
    leaf_degree: Tensor
    pattern_ptr: Tensor
    pattern_tree: Tensor
    pattern_count: Tensor
    support: Tensor
    labels: Tensor
    tree_support: Tensor
    graphs: Tensor
    codes: Codes
    classes: tuple[str, ...]
    recipe: TreeRecipe = field(default_factory=TreeRecipe)
    directed: bool = False
    method: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    published: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default=torch.device("cpu"), init=False)
    kept: Kept | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        patterns, trees = len(self.labels), len(self.levels[-1])
        for name, shape in (
            ("pattern_ptr", (patterns + 1,)),
            ("support", (patterns, len(self.classes))),
            ("tree_support", (trees if len(self.tree_support) else 0, len(self.classes))),
            ("leaf_degree", (len(self.levels[0]),)),
            ("pattern_count", tuple(self.pattern_tree.shape)),
        ):
            if tuple(getattr(self, name).shape) != shape:
                raise refuse(name, f"of shape {list(shape)}", list(getattr(self, name).shape))
        if not patterns:
            raise refuse("labels", "at least one pattern", "none", "Lower `min_support` or raise `budget_bytes`.")

    def __repr__(self) -> str:
        each = a_class(torch.bincount(self.labels, minlength=self.num_classes).tolist())
        sizes = f"{len(self):,} patterns", f"{len(self.levels[-1]):,} trees of depth {self.depth}"
        return one_line(self, [*sizes, f"{self.num_classes:,} classes", each, f"{self.published:,} bytes published"])

    def __len__(self) -> int:
        return len(self.labels)

    @under_own_settings
    def __getitem__(self, index: int) -> tuple[Any, int]:
        """(the pattern's trees as PyG `Data`, its class); see `to_pyg`."""
        from dd.synthetic.tree_views import pattern_data

        return pattern_data(self, range(len(self))[index]), int(self.labels[index])

    @under_own_settings
    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Any, Tensor]]:
        """One epoch of (PyG `Batch` of `size` patterns, classes) in an order drawn from `generator`."""
        from torch_geometric.data import Batch

        for rows in torch.randperm(len(self), generator=generator).split(size):
            yield Batch.from_data_list([self[int(r)][0] for r in rows]), self.labels[rows].to(self.device)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.levels) - 1

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def reading(self) -> str:
        """What networks are trained on, `sets` or `bags`, by the recipe and by what the summary holds.

        `auto` is bags where trees have supports, pooling is a sum and targets are hard: nothing is tried on data.
        """
        recipe = self.recipe
        if recipe.reading != "auto":
            return recipe.reading
        return "bags" if len(self.tree_support) and recipe.readout == "sum" and recipe.targets == "hard" else "sets"

    @property
    def filtered(self) -> bool:
        """Whether test graphs are pooled over nodes with kept trees alone; see `TreeRecipe`."""
        return self.reading == "bags" if self.recipe.filtered is None else self.recipe.filtered

    @cached_property
    @under_own_settings
    def pattern_of(self) -> Tensor:
        """Pattern of each entry of `pattern_tree`, int64."""
        return torch.repeat_interleave(torch.arange(len(self)), self.pattern_ptr.diff())

    def trees(self, pattern: int) -> list[int]:
        """Places of a pattern's trees in the last level."""
        return self.pattern_tree[self.pattern_ptr[pattern] : self.pattern_ptr[pattern + 1]].tolist()

    @under_own_settings
    def weights(self) -> Tensor:
        """p(S) of every pattern by the recipe's `balance`, float64 `[P]`, summing to 1."""
        own = self.support[torch.arange(len(self)), self.labels].double()
        if self.recipe.balance == "uniform":
            return torch.full((len(self),), 1 / len(self), dtype=torch.float64)
        if self.recipe.balance == "support":
            return own / own.sum()
        sums = torch.zeros(self.num_classes, dtype=torch.float64).index_add_(0, self.labels, own)
        return own / sums[self.labels] / (sums > 0).sum()

    @under_own_settings
    def targets(self) -> Tensor:
        """Class probabilities of every pattern by the recipe's `targets`, float64 `[P, K]`."""
        if self.recipe.targets == "hard":
            return torch.nn.functional.one_hot(self.labels, self.num_classes).double()
        share = self.support.double() / self.graphs.clamp(min=1)
        return share / share.sum(1, keepdim=True)

    @under_own_settings
    def multiplicities(self) -> Tensor:
        """How often a graph of each class that holds a tree holds it, in the mean, float64 `[K, R]`."""
        from dd.synthetic.tree_bags import multiplicities

        return multiplicities(self)

    @under_own_settings
    def bags(self, each: int, generator: torch.Generator, weighted: bool = True) -> Tensor:
        """`each` bags of every class, how often they hold each tree, float64 `[K, each, R]`; see `tree_bags.Bags`."""
        from dd.synthetic.tree_bags import Bags

        return Bags(self, weighted).draw(each, generator)

    @under_own_settings
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` patterns drawn with probability p(S), with replacement, int64 `[n]`."""
        return torch.multinomial(self.weights(), n, replacement=True, generator=generator)

    @under_own_settings
    def report(self) -> str:
        """Coverage per class, graphs without a kept tree, distinct trees per depth, thresholds reached, bytes."""
        from dd.synthetic.tree_views import report

        return report(self)

    @under_own_settings
    def to_pyg(self, bags: Tensor | None = None) -> list[Any]:
        """Each pattern as one PyG `Data`: its trees with edges from child to parent and a mask of the roots.

        Args:
            bags: those of `bags`, in place of the patterns: class after class, K · each of them.
        """
        from dd.synthetic.tree_views import bag_data

        if bags is not None:
            return [bag_data(self, bag, k) for k, own in enumerate(bags) for bag in own]
        return [self[i][0] for i in range(len(self))]

    @under_own_settings
    def draw(self, path: str | Path | None = None, per_class: int = 4) -> bytes:
        """The trees that tell each class from the others as a picture, PNG; written to `path` if given."""
        from dd.synthetic.tree_views import draw

        return draw(self, path, per_class)

    def _on(self, device: torch.device) -> TreeSummary:
        return self if device == self.device else moved(self, device=device)

    def with_recipe(self, **changes: Any) -> TreeSummary:
        """The same patterns with other fields of the recipe."""
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, **changes))._on(self.device)

    def _tensors(self) -> dict[str, Tensor]:
        """What the file holds: few tensors, since each costs more in the header than in it; see `_rebuild`."""
        made = {name: getattr(self, name) for name in (*_PLAIN, "tree_support", "graphs")}
        for f in dataclasses.fields(Level):
            parts = [getattr(level, f.name) for level in self.levels]
            made[f"level.{f.name}"] = torch.cat([p.diff() for p in parts] if f.name == "ptr" else parts)
        made["level.sizes"] = torch.tensor([len(level) for level in self.levels])
        for side in ("", "edge_"):
            values: tuple[Tensor, ...] = getattr(self.codes, f"{side}values")
            made[f"codes.{side}table"] = getattr(self.codes, f"{side}table")
            made[f"codes.{side}sizes"] = torch.tensor([len(v) for v in values], dtype=torch.int64)
            made[f"codes.{side}values"] = torch.cat(values) if values else torch.zeros(0, dtype=torch.int64)
        return {name: narrow(t) for name, t in made.items()}

    def _meta(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "format": SET_FORMAT,
            "classes": list(self.classes),
            "recipe": dataclasses.asdict(self.recipe),
            "directed": self.directed,
            "method": dict(self.method),
            "provenance": dict(self.provenance),
            "published": self.published,
            "figures": dict(self.figures),
            "node_label": self.codes.kind,
        }

    @property
    @under_own_settings
    def nbytes(self) -> TreeBytes:
        """Bytes on disk, and the published count beside them."""
        tensors = self._tensors()
        sizes = {name: t.numel() * t.element_size() for name, t in tensors.items()}
        trees = sum(s for name, s in sizes.items() if name.startswith("level."))
        patterns = sum(s for name, s in sizes.items() if name in ("labels", "support") or name.startswith("pattern"))
        total = packed_size(shapes_of(tensors), self._meta())
        return TreeBytes(trees, patterns, total - trees - patterns, total, self.published)

    @under_own_settings
    def save(self, path: str | Path) -> Path:
        """Write one safetensors file. Equal summaries give equal bytes.

        Raises:
            WriteError: the disk refuses; an earlier file is intact.
        """
        return write_set(as_path(path), *self.content())

    @under_own_settings
    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of its file."""
        return self._tensors(), self._meta()

    @classmethod
    @under_own_settings
    def load(cls, path: str | Path) -> TreeSummary:
        """Read a file of `save`; every checksum is compared, no code is run.

        Raises:
            MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
        """
        content = read_set(as_path(path), KIND, "summary of trees")
        try:
            return cls.assemble(*content)
        except (KeyError, TypeError, ValueError, DDError) as error:
            raise DamagedError(f"{path} is not a whole summary of trees: {error}.") from error

    @staticmethod
    @under_own_settings
    def assemble(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], store: LabelStore | None) -> TreeSummary:
        """The summary that gave this `content()`; it has no store."""
        del store
        only(tensors, *_NAMES)
        wide = {n: t.long() if not t.is_floating_point() else t for n, t in tensors.items()}
        summary = _rebuild(wide, meta)
        check_summary(summary)
        return summary


def _rebuild(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> TreeSummary:
    """A summary from its file, whose levels lie end to end: `level.sizes` trees each, `level.ptr` runs a tree."""

    def split(name: str, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """The parts of a tensor that lie end to end."""
        if min(sizes, default=0) < 0 or sum(sizes) != len(tensors[name]):
            raise refuse(name, f"of {len(tensors[name])} rows in all", list(sizes)[:8])
        return tensors[name].split(list(sizes))

    sizes = tensors["level.sizes"].tolist()
    if not sizes:
        raise refuse("level.sizes", "at least one depth", "none")
    trees = {n: split(f"level.{n}", sizes) for n in ("label", "trunc", "ptr")}
    runs = [int(p.sum()) for p in trees["ptr"]]
    more = {n: split(f"level.{n}", runs) for n in ("child", "edge", "count")}
    levels = []
    for d in range(len(sizes)):
        ptr = torch.cat([torch.zeros(1, dtype=torch.int64), trees["ptr"][d].cumsum(0)])
        rest = {name: parts[d] for name, parts in more.items()}
        levels.append(Level(label=trees["label"][d], trunc=trees["trunc"][d], ptr=ptr, **rest))

    def values(side: str) -> tuple[Tensor, ...]:
        return split(f"codes.{side}values", tensors[f"codes.{side}sizes"].tolist())

    return TreeSummary(
        levels=tuple(levels),
        codes=Codes(
            meta["node_label"], values(""), tensors["codes.table"], values("edge_"), tensors["codes.edge_table"]
        ),
        classes=tuple(meta["classes"]),
        recipe=TreeRecipe(**check_whole_recipe(meta["recipe"], TreeRecipe)),
        directed=meta["directed"],
        method=meta["method"],
        provenance=meta["provenance"],
        published=meta["published"],
        figures=meta["figures"],
        **{name: tensors[name] for name in (*_PLAIN, "tree_support", "graphs")},
    )
