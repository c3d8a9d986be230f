"""A method, a set and a data set say what they are; a method that does not is told how."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from reference.jobs import DATA, SMALL, TREES
from torch import Tensor

import dd
from dd.cost.estimate import Estimate
from dd.data.graphs.graphs import Graphs
from dd.errors import InputError
from dd.methods import METHODS, RandomReal, Step, class_of, kind_of, names_of, need_method, one_of
from dd.synthetic import CompensatedImages, SyntheticImages, SyntheticSet, TreeSummary


@pytest.mark.parametrize("name", METHODS)
def test_the_class_of_a_name_is_that_of_its_values_and_says_kind_and_budget(name: str) -> None:
    value = METHODS[name]()
    assert type(value) is class_of(name)
    assert need_method(value) is value
    fields = {field.name for field in dataclasses.fields(value)}  # type: ignore[arg-type]
    assert value.budget in fields
    assert not fields & {"kind", "budget"}  # else they would be in every record, and in the bytes of every set
    assert not value.describe().keys() & {"kind", "budget"}
    assert name in names_of(kind_of(name))


def test_a_function_that_does_not_say_what_it_gives_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "own", lambda **fields: RandomReal(**fields))
    with pytest.raises(TypeError, match=r"METHODS\['own'\] does not say what it gives. Annotate it: `-> YourMethod`"):
        kind_of("own")


def test_a_set_has_the_kind_of_its_data() -> None:
    assert {one.kind for one in (dd.Images, SyntheticImages, CompensatedImages)} == {"images"}
    assert {one.kind for one in (Graphs, TreeSummary)} == {"graphs"}
    assert SMALL.kind == DATA.kind == "images"
    assert TREES.kind == "graphs"
    assert isinstance(SMALL, SyntheticSet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent:
    """A method that does not say what it is."""

    name: str = "silent"

    def distill(self, real: Any, run: dd.Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        yield from RandomReal(ipc=1).distill(real, run, state)

    def describe(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Told(Silent):
    """The same, after what the refusal says was written into its class."""

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = ""


class OfGraphs(Told):
    kind: ClassVar[str] = "graphs"


def test_a_method_that_does_not_say_what_it_is_is_told_how() -> None:
    with pytest.raises(InputError, match=r"got a Silent without kind and budget.*`kind: ClassVar\[str\] = .images"):
        dd.distill(DATA, Silent(), progress=False)  # type: ignore[arg-type]
    assert len(dd.distill(DATA, Told(), progress=False)) == len(DATA.classes)


def test_a_class_is_no_method() -> None:
    with pytest.raises(InputError, match=r"`method` must be a name or a Method value; got the class Told"):
        dd.distill(DATA, Told, progress=False)  # type: ignore[arg-type]


def test_a_class_is_no_method_of_a_benchmark_either() -> None:
    with pytest.raises(InputError, match=r"`method` must be a name or a Method value; got the class Told"):
        dd.benchmark(DATA, [Told], **BENCH)
    with pytest.raises(InputError, match="got a Silent without kind and budget"):
        dd.benchmark(DATA, [Silent()], **BENCH)  # type: ignore[list-item]
    with pytest.raises(InputError, match="`methods` must be for images; got 'silent', which is for graphs"):
        dd.benchmark(DATA, [OfGraphs()], **BENCH)


BENCH: dict[str, Any] = {"ipc": 1, "models": "mlp", "repeats": 1, "steps": 1, "baselines": (), "progress": False}


@pytest.mark.parametrize("kind", [3, None, "", ["images"]])
def test_a_kind_is_a_word(kind: Any) -> None:
    own: Any = type("Own", (Told,), {"kind": kind})
    with pytest.raises(
        InputError, match=r"`kind` must be a word, such as `images`, in the class Own; got .* Write `kind"
    ):
        need_method(own())


@pytest.mark.parametrize("budget", [3, None, "ipcs", ["name"]])
def test_a_budget_is_a_field(budget: Any) -> None:
    own: Any = type("Own", (Told,), {"budget": budget})
    with pytest.raises(
        InputError, match=r"`budget` must be the name of a field of Own, or empty; got .* Write `budget"
    ):
        need_method(own())


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ("silent", "a dict of fields with name 'silent'; got a str"),
        ({"name": "ftd"}, "a dict of fields with name 'silent'; got one with name 'ftd'"),
        ({}, "a dict of fields with name 'silent'; got one with name None"),
        ({"name": "silent", "x": {1, 2}}, "what JSON can hold, of 'silent'; got something else"),
    ],
)
def test_a_description_that_cannot_be_kept_is_refused_before_the_run(told: Any, text: str, tmp_path: Any) -> None:
    own: Any = type("Own", (Told,), {"describe": lambda self: told})
    with pytest.raises(InputError, match=rf"`describe\(\)` must be {text}"):
        dd.distill(DATA, own(), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=text):
        dd.benchmark(DATA, [own()], **BENCH)


@pytest.mark.parametrize("name", ["random", "Herding", "full", "random_labels of rded"])
def test_a_users_method_does_not_take_the_row_of_a_baseline(name: str) -> None:
    """It would not be run: the row would be the library's baseline, beside which it stands."""
    with pytest.raises(InputError, match=f"`methods` must be named otherwise than baselines; got '{name}'. Give the"):
        dd.benchmark(DATA, [dataclasses.replace(Told(), name=name)], **BENCH)


def test_a_users_method_is_refused_data_of_another_kind() -> None:
    with pytest.raises(
        InputError, match=r"`data` must be graphs for the method 'silent'.*For this data there are: mtt"
    ):
        dd.distill(DATA, OfGraphs(), progress=False)


def test_fields_that_exclude_each_other_are_said_by_the_class() -> None:
    assert one_of("mirage", {"min_support": 3}) == {"min_support": 3, "budget_bytes": None}
    assert one_of("mirage", {"budget_bytes": 99})["min_support"] is None
    assert one_of("mirage", {"min_support": None}) == {"min_support": None}  # which `Mirage` itself decides on
    both = {"min_support": 3, "budget_bytes": 99}
    assert one_of("mirage", both) == both  # `Mirage` refuses it
    assert one_of("mtt", {"ipc": 1}) == {"ipc": 1}


class Costed(Told):
    """A method that knows what it costs."""

    def estimate(self, real: dd.Images, device: Any, calibrate: bool) -> Estimate:
        size = real.num_classes if calibrate else 0
        return Estimate(
            disk_bytes=size,
            peak_bytes=1,
            stages={"blending": 2.0},
            measured=True,
        )


def test_a_users_method_is_asked_what_it_costs() -> None:
    found = dd.estimate(DATA, Costed(), calibrate=True)
    assert found.disk_bytes == DATA.num_classes
    assert (
        str(found)
        == "silent on toy, fields as given: blending about 2 seconds, 3 B in the store, peak about 1 B (measured)"
    )
    with pytest.raises(
        InputError, match=r"one of mtt, ftd, .*, or one with a method `estimate\(real, device, calibrate\)`"
    ):
        dd.estimate(DATA, Told())
    with pytest.raises(InputError, match="images for the method 'mtt'"):
        dd.estimate("digits-graphs", "mtt")
