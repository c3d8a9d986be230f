"""Labels of every kind: which class each is, wherever the same data is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reference.graphs import graph
from reference.pictures import Items, pixels

import dd
from dd.data import Images, TensorSplit, as_split, load_graphs, load_images
from dd.data.labels import Encoding, check_same_classes, read_labels
from dd.errors import InputError

N = 40
X = pixels(N)
ORDER = torch.tensor([0, 1, 1, 0, 2, 1, 0, 2, 2, 0] * 4)  # classes of the images
CATS = ("ant", "bee", "cat")

KINDS: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {  # labels of the classes 0, 1, 2; their names
    "names": (CATS, CATS),
    "capitals before small letters": (("Ant", "ant", "ånt"), ("Ant", "ant", "ånt")),
    "numbers with gaps": ((3, 7, 11), ("3", "7", "11")),
    "from 1 on": ((1, 2, 3), ("1", "2", "3")),
    "below 0": ((-1, 0, 1), ("-1", "0", "1")),
    "huge": ((0, 10**12, 2**62), ("0", str(10**12), str(2**62))),
    "numbers of classes": ((0, 1, 2), ("0", "1", "2")),
    "texts of numbers": (("2", "9", "10"), ("2", "9", "10")),
    "whole floats": ((2.0, 5.0, 8.0), ("2", "5", "8")),
}


def forms(labels: list[Any]) -> dict[str, Any]:
    """The same labels in every form that takes them."""
    found: dict[str, Any] = {"list": labels, "array": np.array(labels), "objects": np.array(labels, dtype=object)}
    if not isinstance(labels[0], str):
        found |= {"tensor": torch.tensor(labels), "column": torch.tensor(labels)[:, None]}
    else:
        found["column"] = np.array(labels)[:, None]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_classes_in_sorted_order_called_as_they_are_written(kind: str) -> None:
    values, names = KINDS[kind]
    labels = [values[k] for k in ORDER]
    for form, given in forms(labels).items():
        for data in ((X, given), Items(X, given)):
            made = load_images(data)
            assert made.classes == names, form
            assert torch.equal(made.all_train().train.labels, ORDER), form
    lazy = load_images(Items(X, labels), limit=10)
    assert lazy.classes == names
    assert torch.equal(lazy.all_train().train.labels, ORDER)
    assert torch.equal(as_split((X, labels)).labels, ORDER)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_have_their_classes_likewise(kind: str) -> None:
    values, names = KINDS[kind]
    made = [labelled(values[k]) for k in ORDER]
    real = load_graphs((made, made[:5]))
    assert real.classes == names
    assert real.test is not None
    assert torch.equal(real.test.labels, ORDER[:5])
    assert load_graphs(made, split=None).graphs_per_class.sum() == load_graphs(made, split=None).train.labels.numel()


def labelled(y: Any) -> SimpleNamespace:
    """A graph with this label, as it is or in a tensor."""
    made = graph([(0, 1), (1, 2)], 3)
    made.y = y if isinstance(y, str) else torch.tensor([y])
    return made


def test_truth_and_bytes_are_names() -> None:
    yes = ORDER > 0
    for given in (yes, yes.numpy(), yes.tolist(), yes[:, None]):
        assert load_images((X, given)).classes == ("False", "True")
        assert torch.equal(load_images(Items(X, given)).all_train().train.labels, yes.long())
    assert load_images((X, yes), classes=["no", "yes"]).classes == ("no", "yes")
    assert load_images((X, np.array([b"dog" if one else b"cat" for one in yes]))).classes == ("cat", "dog")
    mixed = load_images((X, [bool(k) if k < 2 else 2 for k in ORDER.tolist()]))
    assert mixed.classes == ("0", "1", "2")


def test_columns_of_pandas_are_labels() -> None:
    pandas = pytest.importorskip("pandas")
    for column in (
        pandas.Series([CATS[k] for k in ORDER]),
        pandas.Series([CATS[k] for k in ORDER], dtype="category"),
        pandas.Series([CATS[k] for k in ORDER], index=range(100, 140)),
    ):
        made = load_images((X, column))
        assert made.classes == CATS
        assert torch.equal(made.all_train().train.labels, ORDER)
    numbers = pandas.Series([3 + 4 * int(k) for k in ORDER], dtype="Int64")
    assert load_images((X, numbers)).classes == ("3", "7", "11")
    with pytest.raises(InputError, match=r"got 20 NaN or infinite of 40\. Leave out what has no label"):
        load_images((X, pandas.Series([3, None] * 20, dtype="Int64")))


def test_names_of_a_dataset_and_of_the_caller_come_first() -> None:
    labels = [CATS[k] for k in ORDER]
    named = Items(X, labels)
    named.classes = ["cat", "bee", "ant"]  # type: ignore[attr-defined]
    made = load_images(named)
    assert made.classes == ("cat", "bee", "ant")
    assert torch.equal(made.all_train().train.labels, 2 - ORDER)
    assert load_images((X, labels), classes=["bee", "ant", "cat"]).classes == ("bee", "ant", "cat")
    shelves = Items(X, [(1, 0, 2)[k] for k in ORDER])
    shelves.classes = ["0", "2", "10"]  # type: ignore[attr-defined]  # folders sorted by text: numbers are places
    assert torch.equal(load_images(shelves).all_train().train.labels, torch.tensor([1, 0, 2])[ORDER])
    numbers = load_images((X, [(3, 7, 11)[k] for k in ORDER]), classes=["11", "7", "3"])
    assert torch.equal(numbers.all_train().train.labels, 2 - ORDER)
    assert load_images((X, labels), classes=3).classes == CATS
    with pytest.raises(InputError, match=r"of 4 classes, as `classes` says; got 'ant', 'bee', 'cat'"):
        load_images((X, labels), classes=4)
    with pytest.raises(InputError, match=r"`data labels` must be of the classes 'ant', 'bee'; got 'cat'\."):
        load_images((X, labels), classes=["ant", "bee"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "numbers of classes"])
def test_test_labels_go_by_those_of_train(kind: str) -> None:
    values, names = KINDS[kind]
    labels, last = [values[k] for k in ORDER], ORDER == 2
    some = Images(train=(X, labels), test=(X[last], [values[2]] * int(last.sum())), val=(X[:1], [values[0]]))
    assert some.classes == names
    assert some.test is not None
    assert some.test.labels.tolist() == [2] * int(last.sum())
    other: Any = "dog" if isinstance(values[0], str) else 6
    for split in ("test", "val"):
        with pytest.raises(
            InputError, match=rf"`{split} labels` must be of the classes .*; got {other!r}\. Leave them"
        ):
            Images(train=(X, labels), **{split: (X[:1], [other])})
    graphs = [labelled(value) for value in labels]
    with pytest.raises(InputError, match=rf"`data labels` must be of the classes .*; got {other!r}\. Leave them"):
        load_graphs((graphs, [labelled(other)]))


def test_splits_are_taken_as_they_are() -> None:
    split = TensorSplit(X, ORDER)
    assert load_images(split).classes == ("0", "1", "2")
    assert Images(train=(X, [CATS[k] for k in ORDER]), test=split).test is split
    with pytest.raises(InputError, match="no image of class 1"):
        load_images(TensorSplit(X, ORDER * 2))


def test_names_that_steer_a_terminal_are_cleaned_and_stay_apart() -> None:
    labels = [("a\tb", "a b", "z\x1b[0m")[k] for k in ORDER]
    made = load_images((X, labels))
    assert made.classes == ("a b", "a b (2)", "z\\u001b[0m")
    assert torch.bincount(made.all_train().train.labels).tolist() == torch.bincount(ORDER).tolist()
    assert load_images((X, ["x" * 500 if k else "y" for k in ORDER.tolist()])).classes[0].startswith("xxx")


# The same classes when a set is tested


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    return tmp_path


def random_set(data: Any) -> Any:
    train = dd.TrainRecipe(model="mlp", steps=1)
    return dd.distill(data, "random", ipc=1, train=train, progress=False)


def judged(small: Any, data: Any) -> dd.EvalReport:
    return dd.evaluate(small, data, repeats=1, baselines=(), progress=False)


def perfect(labels: list[Any]) -> tuple[torch.Tensor, list[Any]]:
    """Images that are their class: wholly dark, grey or bright, but for one pixel."""
    x = (ORDER * 100).to(torch.uint8)[:, None, None, None].expand(N, 1, 8, 8).clone()
    x[:, 0, 0, 0] = torch.arange(N, dtype=torch.uint8)
    return x, labels


@pytest.mark.parametrize("kind", [*KINDS])
def test_test_data_alone_has_the_classes_of_the_set(kind: str, home: Path) -> None:
    values, names = KINDS[kind]
    x, labels = perfect([values[k] for k in ORDER])
    small = random_set((x, labels))
    assert small.classes == names
    again = judged(small, (x + 1, labels[:]))
    assert list(again.support) == list(names)
    assert list(again.support.values()) == torch.bincount(ORDER).tolist()


def test_test_data_alone_that_lacks_a_class_or_has_another_is_refused(home: Path) -> None:
    for values in (CATS, (3, 7, 11), (1, 2, 3)):
        x, labels = perfect([values[k] for k in ORDER])
        small = random_set((x, labels))
        two = ORDER < 2
        few = (x[two] + 1, [label for label in labels if label != values[2]])
        with pytest.raises(InputError, match=r"`data labels` must be of every class of the set; got none of") as told:
            judged(small, few)
        code = str(told.value).split("give `")[1].split("`.")[0]
        assert list(judged(small, eval(code, {"dd": dd, "data": few})).support.values())[2] == 0
        other: Any = "dog" if values == CATS else 4
        with pytest.raises(InputError, match=rf"`data labels` must be of the classes .*; got {other!r}\."):
            judged(small, (x, [other if label == values[2] else label for label in labels]))


def test_names_cannot_be_told_for_a_set_whose_classes_have_none(home: Path) -> None:
    x, labels = perfect([CATS[k] for k in ORDER])
    small = random_set((x, ORDER))
    with pytest.raises(InputError, match=r"numbers of classes, as those of the set are; got 'ant', 'bee', 'cat'\."):
        judged(small, (x + 1, labels))
    given = load_images((x + 1, labels), role="evaluate", classes=[*CATS])
    assert list(judged(small, given).support.values()) == torch.bincount(ORDER).tolist()


def test_numbers_of_classes_are_told_for_a_set_whose_classes_have_names(home: Path) -> None:
    x, labels = perfect([CATS[k] for k in ORDER])
    assert list(judged(random_set((x, labels)), (x + 1, ORDER)).support.values()) == torch.bincount(ORDER).tolist()


@pytest.mark.parametrize("other", [("bee", "ant", "cat"), ("ant", "bee", "dog"), ("bee", "cat", "dog")])
def test_other_classes_of_data_are_refused(other: tuple[str, ...], home: Path) -> None:
    x, labels = perfect([CATS[k] for k in ORDER])
    small = random_set((x, labels))
    data = Images(train=(x, ORDER), test=(x + 1, ORDER), classes=other)
    with pytest.raises(
        InputError, match=r"of the classes of the set in their order, class \d '\w+'; got class \d '\w+'"
    ):
        judged(small, data)
    assert judged(small, Images(train=(x, ORDER), test=(x + 1, ORDER), classes=CATS)).mean >= 0


def test_classes_that_share_no_name_are_other_names_of_the_same() -> None:
    check_same_classes(CATS, ("n01", "n02", "n03"), "set")
    check_same_classes(CATS, ("0", "1", "2"), "set")
    check_same_classes(("0", "1", "2"), CATS, "set")


def test_classes_called_by_numbers_in_the_order_of_texts_are_not_taken_for_numbers_of_classes() -> None:
    texts, numbers = tuple(sorted(map(str, range(12)))), tuple(map(str, range(12)))
    x = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    test = dd.load_images((x, list(range(12))), role="evaluate", like=texts)
    for own, data in ((texts, numbers), (numbers, texts), (texts, test.classes)):
        with pytest.raises(dd.InputError, match=r"class 2 '(10|2)'; got class 2 '.*as texts too: `\[str\(label\) for"):
            check_same_classes(own, data, "set")
    named = dd.load_images((x, [str(label) for label in range(12)]), role="evaluate", like=texts)
    check_same_classes(texts, named.classes, "set")
    assert [texts[k] for k in named.test.labels.tolist()] == list(numbers)  # type: ignore[union-attr]
    whole = {"train": (x.repeat(2, 1, 1, 1), [*numbers, *numbers]), "test": (x, list(numbers))}
    given = dd.load_images(whole, classes=texts)
    check_same_classes(texts, given.classes, "set")
    assert [texts[k] for k in given.test.labels.tolist()] == list(numbers)  # type: ignore[union-attr]
    placed = dd.load_images((x, list(range(12))), role="evaluate", classes=texts)
    check_same_classes(texts, placed.classes, "set")
    assert placed.test.labels.tolist() == list(range(12))  # type: ignore[union-attr]


def test_a_summary_is_tested_by_the_same_classes(home: Path) -> None:
    def graphs(values: tuple[Any, ...], seed: int = 0) -> list[SimpleNamespace]:
        made = []
        for i in range(20):
            one = graph([(0, j) for j in range(1, 4)] if i % 2 else [(j, j + 1) for j in range(3 + i % 3 + seed)], 8)
            one.y = values[i % 2]
            made.append(one)
        return made

    train, test = graphs(("no", "yes")), graphs(("no", "yes"), 1)
    summary = dd.distill((train, test), "mirage", depth=1, budget_bytes=512, progress=False)
    assert summary.classes == ("no", "yes")
    judge: Callable[..., Any] = lambda data: dd.evaluate(summary, data, repeats=1, steps=1, baselines=())  # noqa: E731
    assert list(judge(test).support) == ["no", "yes"]
    with pytest.raises(InputError, match=r"of every class of the set; got none of 'no'"):
        judge(test[1::2])
    with pytest.raises(InputError, match=r"of the classes 'no', 'yes'; got 'maybe'"):
        judge(graphs(("no", "maybe"), 1))
    with pytest.raises(
        InputError, match=r"of the classes of the summary in their order, class 1 'yes'; got class 1 'zz'"
    ):
        judge((graphs(("no", "zz")), graphs(("no", "zz"), 1)))


def test_an_encoding_by_itself() -> None:
    assert Encoding.of(["b", "a", "b"], None, "y") == Encoding(("a", "b"), numbered=False)
    assert Encoding.of([1, 0], None, "y") == Encoding(("0", "1"), numbered=True)
    assert Encoding.of([2, 0, 0], None, "y", every=False) == Encoding(("0", "1", "2"), numbered=True)
    assert Encoding.of([2, -1], None, "y", every=False) == Encoding(("-1", "2"), numbered=False)
    assert read_labels(torch.tensor([[1], [2]]), "y") == [1, 2]
    assert Encoding(("2", "10"), numbered=False).classes_of([10, 2], "y").tolist() == [1, 0]
