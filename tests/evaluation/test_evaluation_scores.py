"""AUROC, accuracy and the corrected interval, against definitions and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score, roc_auc_score

from dd.errors import InputError
from dd.evaluation import auroc, corrected_interval
from dd.evaluation.scores import METRICS, accuracy, balanced_accuracy, check_metric, comparable, figures, recall


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_binary_auroc_counts_pairs_and_is_scikit_learns(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (60,), generator=generator).double()
    labels = torch.randint(2, (60,), generator=generator)
    pairs = [(a, b) for a in scores[labels == 1].tolist() for b in scores[labels == 0].tolist()]
    by_pairs = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auroc(scores, labels) == pytest.approx(by_pairs, abs=1e-12)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    two = torch.stack([torch.full_like(scores, 3.0), scores], dim=1)
    assert auroc(two, labels) == pytest.approx(by_pairs, abs=1e-12)
    assert auroc(-scores, labels) == pytest.approx(1 - by_pairs, abs=1e-12)


def test_macro_auroc_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(50, 4, dtype=torch.float64, generator=generator).log_softmax(1)
    labels = torch.arange(50) % 4
    expected = roc_auc_score(labels, log_p.exp(), multi_class="ovr", average="macro")
    assert auroc(log_p, labels) == pytest.approx(expected, abs=1e-12)


def test_accuracy() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    assert accuracy(scores, torch.tensor([1, 0, 0, 0])) == 0.75


@pytest.mark.parametrize("classes", [2, 5])
def test_recalls_are_those_of_the_confusion_matrix(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(200, classes, generator=generator)
    labels = (torch.rand(200, generator=generator) ** 3 * classes).long()  # the first class is by far the largest
    predicted = logits.argmax(1)
    table = [[0] * classes for _ in range(classes)]
    for y, p in zip(labels.tolist(), predicted.tolist(), strict=True):
        table[y][p] += 1
    assert table == confusion_matrix(labels, predicted).tolist()
    by_hand = [table[k][k] / sum(table[k]) for k in range(classes)]
    assert recall(logits, labels).tolist() == pytest.approx(by_hand, abs=1e-15)
    assert by_hand == pytest.approx(recall_score(labels, predicted, average=None))
    assert balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, predicted))
    found = figures(comparable(logits), labels, "auroc")
    assert found.metrics["accuracy"] == accuracy(logits, labels) == sum(table[k][k] for k in range(classes)) / 200
    assert found.metrics["balanced_accuracy"] == balanced_accuracy(logits, labels)
    assert found.recall == tuple(recall(logits, labels).tolist())
    p = logits.double().softmax(1)
    area = roc_auc_score(labels, p[:, 1] if classes == 2 else p, multi_class="ovr")
    assert found.metrics["auroc"] == pytest.approx(area, abs=1e-12)
    assert set(figures(comparable(logits), labels).metrics) == {*METRICS} - ({"auroc"} if classes > 2 else set())


def test_a_class_without_rows_has_no_recall() -> None:
    scores, labels = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]]), torch.tensor([0, 1, 0])
    found = figures(scores, labels)
    assert found.recall == (0.5, 1.0, None)
    assert found.metrics == {"accuracy": pytest.approx(2 / 3), "balanced_accuracy": 0.75}
    assert "auroc" not in figures(scores[:, :2], torch.zeros(3).long()).metrics
    with pytest.raises(InputError, match=r"got none of class 2\. AUROC needs every class in the split: use metric="):
        figures(scores, labels, "auroc")
    with pytest.raises(InputError, match="at least one row"):
        balanced_accuracy(torch.zeros(0, 2), torch.zeros(0).long())


def test_score_refusals() -> None:
    two = torch.zeros(3, 2)
    with pytest.raises(InputError, match=r"`labels` must be of all the classes 0 … 1; got none of class 1"):
        auroc(two, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="got none of class 2"):
        auroc(torch.zeros(3, 3), torch.tensor([0, 1, 1]))
    with pytest.raises(InputError, match="got class 2"):
        auroc(two, torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="`scores` must be finite"):
        auroc(torch.tensor([0.0, math.nan, 1.0]), torch.tensor([0, 1, 1]))
    with pytest.raises(InputError, match=r"`labels` must be a tensor \[N\] with N = 3"):
        auroc(two, torch.tensor([0, 1]))
    with pytest.raises(InputError, match="at least one row"):
        accuracy(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(InputError, match="unknown metric 'f1'; known: accuracy, auroc, balanced_accuracy"):
        check_metric("f1", torch.tensor([0, 1]), 2)
    check_metric("accuracy", torch.tensor([0, 0]), 2)


def test_corrected_interval_by_hand() -> None:
    """Differences 1, 2, 3, 4: mean 2.5, s² = 5/3; 80 training and 10 test graphs; t_{0.975, 3} = 3.182446."""
    half = 3.182446305284263 * math.sqrt(5 / 3) * math.sqrt(1 / 4 + 1 / 8)
    found = corrected_interval([1.0, 2.0, 3.0, 4.0], train=80, test=10)
    assert found == pytest.approx((2.5, 2.5 - half, 2.5 + half), abs=1e-9)
    assert str(corrected_interval([1.0, 1.0], 80, 10)) == "+1 [+1, +1]"
    with pytest.raises(InputError, match="`differences` must be those of at least two splits; got 1"):
        corrected_interval([1.0], 80, 10)
    with pytest.raises(InputError, match="`train` must be a whole number"):
        corrected_interval([1.0, 2.0], 0, 10)
    with pytest.raises(InputError, match="`confidence`"):
        corrected_interval([1.0, 2.0], 80, 10, confidence=95)
