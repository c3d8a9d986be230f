"""The page: self-contained, escaped, the same bytes every time."""

import copy
import re
from html.parser import HTMLParser

import pytest

from dd.errors import InputError
from dd.pages.page import Picture, duration, score, size, write_page

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


def row(name, mean, std=0.01, values=(0.8, 0.9), **changes):
    fixed = {"set": name, "model": "convnet", "metric": "accuracy", "mean": mean, "std": std, "n": len(values)}
    return {**fixed, "values": list(values), "steps": 1000, "lr": 0.02, "seconds": 75.0, **changes}


REPORT = {
    "format": 1,
    "dataset": "digits",
    "split": "test",
    "protocol": "clean",
    "selection": "validation split",
    "method": {"name": "ftd", "ipc": 1, "inner": {"steps": 20}},
    "rows": [row("ftd", 0.884), row("random", 0.702), row("class_mean", 0.866), row("ftd", 0.7, model="mlp")],
    "bytes": {"images": 2560, "labels": 80, "extras": 900, "total": 3540},
    "origin": {"seed": 0, "commit": None, "versions": {"torch": "2"}, "machine": "m", "threads": 2},
}


def page(tmp_path, report=REPORT, **arguments):
    return write_page(tmp_path / "index.html", report, **arguments).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every opening tag with its attributes, and that all are closed in order."""

    VOID = ("meta", "img", "br", "wbr", "circle", "line")

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_fetches_nothing(tmp_path):
    text = page(tmp_path, grid_png=PNG, curve=b"<svg xmlns='http://www.w3.org/2000/svg'/>", command="ddistill x")
    tags = Tags(text)
    assert tags.open == []
    sources = [attrs["src"] for tag, attrs in tags.found if tag == "img"]
    assert [source.partition(";")[0] for source in sources] == ["data:image/png", "data:image/svg+xml"]
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrcset", text)
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "a", "object", "base"}
    policy = next(attrs["content"] for _, attrs in tags.found if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")


def test_on_a_phone_every_number_is_in_a_row_of_its_own_or_scrolls(tmp_path):
    others = {"balanced_accuracy": {"mean": 0.5, "std": None, "values": [0.5]}}
    uneven = {**REPORT, "rows": [row("my_<set>", 0.8, other_metrics=others)], "support": {"a": 9, "b": 1}}
    text = page(tmp_path, report=uneven, pictures=[Picture("Trees", "Trees", PNG, wide=True)])
    more = re.search(r'<tr class="more">(.*?)</tr>', text, re.DOTALL)
    assert "balanced accuracy 50.0 %" in more[1]
    assert '<span class="soft wide"><br>balanced accuracy 50.0 %</span>' in text  # not beside the score there
    assert "<td>my_<wbr>&lt;set&gt;</td>" in text
    regions = [attrs["class"] for _, attrs in Tags(text).found if attrs.get("role") == "region"]
    assert regions == ["scroll", "table"]
    assert ".table, .scroll { overflow-x: auto; }" in text


def test_page_says_the_numbers(tmp_path):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page(tmp_path, command="ddistill distill digits ftd")))
    assert "88.4 % ± 1.0 accuracy, ftd, 2 fresh networks (convnet)" in text
    assert "1.8 points above the best beside it under the same network (class_mean, 86.6 %)" in text
    assert "1 min 15 s" in text
    assert "total on disk 3,540 B" in text
    assert "inner.steps 20" in text
    assert "ddistill distill digits ftd" in text
    assert "Paper protocol" not in text


def test_a_row_says_its_bytes_and_what_is_read_has_no_steps(tmp_path):
    rows = [row("ftd", 0.8, bytes=3540), row("ridge", 0.7, steps=0, lr=0.0)]
    text = plain(page(tmp_path, {**REPORT, "rows": rows, "about": {"ridge": "a <reader>"}}))
    assert "2 3,540 B 1,000 0.02" in text
    assert "2 – – –" in text
    assert "rows: ridge: a &lt;reader&gt;. n is networks" in text


def plain(text):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


def test_uneven_classes_show_what_accuracy_hides(tmp_path):
    report = copy.deepcopy(REPORT)
    balanced = {"balanced_accuracy": {"mean": 0.512, "std": 0.01, "values": [0.5, 0.524]}}
    report["rows"][0].update(other_metrics=balanced, recall=[0.97, None])
    report["support"] = {"common": 95, "rare": 0}
    text = plain(page(tmp_path, report))
    assert "88.4 % ± 1.0 balanced accuracy 51.2 %" in text
    assert "common 97.0 % of 95 rare – of 0" in text
    report["support"] = {"common": 50, "rare": 50}
    assert "balanced" not in plain(page(tmp_path, report))
    report["rows"][0]["metric"] = "balanced_accuracy"
    assert "88.4 % ± 1.0 balanced accuracy, ftd" in plain(page(tmp_path, report))


def test_training_data_are_not_called_held_out(tmp_path):
    assert "Fresh networks on held-out data" in page(tmp_path)
    text = page(tmp_path, {**REPORT, "split": "training data", "protocol": "not clean"})
    assert "Fresh networks on training data" in text
    assert "held-out" not in text


def test_names_are_escaped(tmp_path):
    evil = '<b onclick="x">&'
    report = copy.deepcopy(REPORT)
    report.update(dataset=evil, selection=evil, method={"name": evil, evil: evil}, notes=[evil])
    report["rows"][0].update(set=evil, model=evil, metric=evil, lr=evil)
    report["bytes"] = {evil: 1}
    report["origin"] = {evil: evil, "versions": {evil: evil}}
    text = page(tmp_path, report, title=evil, command=evil)
    assert "<b" not in text.replace("<body", "").replace("<br>", "")
    assert text.count("&lt;b onclick=") >= 15


def test_same_content_same_bytes(tmp_path):
    assert page(tmp_path, grid_png=PNG) == page(tmp_path, copy.deepcopy(REPORT), grid_png=PNG)


def test_paper_protocol_and_notes_are_shown(tmp_path):
    text = page(tmp_path, {**REPORT, "protocol": "paper", "notes": ["half a store"]})
    assert "Paper protocol" in text
    assert "half a store" in text


def test_one_network_no_spread_and_text_method(tmp_path):
    alone = row("ftd", 0.5, None, (0.5,), seconds=None, steps=None, lr=None, interval95=None)
    text = page(tmp_path, {"rows": [alone], "method": "MTT(ipc=1)"})
    assert "one fresh network" in text
    assert "MTT(ipc=1)" in text


def test_other_metrics_are_not_per_cent(tmp_path):
    text = page(tmp_path, {"rows": [row("a", 1.2345, metric="lrs"), row("b", 2.0, metric="lrs")]})
    assert "1.23" in text
    assert "points" not in text


def test_strip_places_are_on_the_strip(tmp_path):
    report = {"rows": [row("a", 0.85, interval95=0.3), row("b", 0.1, None, (0.1,))]}
    places = [float(p) for p in re.findall(r'[x]\d?="([\d.]+)%" (?:x2|cy)', page(tmp_path, report))]
    assert places
    assert all(0 <= p <= 100 for p in places)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="`report` must be a report with at least one row; got none"):
        page(tmp_path, {"rows": []})
    with pytest.raises(InputError, match="`grid_png` must be the bytes of a PNG or SVG file"):
        page(tmp_path, grid_png=b"GIF89a")
    assert not (tmp_path / "index.html").exists()


def test_units():
    assert [size(n) for n in (0, 99_999, 100_000, 12_345_678, 2_000_000_000)] == [
        "0 B",
        "99,999 B",
        "100.0 kB",
        "12.3 MB",
        "2.0 GB",
    ]
    assert [duration(s) for s in (None, 0.123, 9.7, 59.2, 61, 7300)] == [
        "–",
        "0.12 s",
        "9.7 s",
        "59 s",
        "1 min 1 s",
        "2 h 1 min",
    ]
    assert [score("accuracy", 0.1234), score("lrs", 12.345), score("auroc", None)] == ["12.3 %", "12.3", "–"]
