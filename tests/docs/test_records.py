"""The tables are those that the records give, and every record has its birth certificate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy import stats

from dd.data import Split
from dd.evaluation.learners import NetworkPredictor
from dd.methods import METHODS, presets, rebuild
from dd.models import as_spec
from scripts.records import kept
from scripts.records.make import leaderboards, run, settings
from scripts.records.tables import __main__ as tables
from scripts.records.tables import boards, decoupled, published, values
from scripts.records.tables import settings as settings_tables

ROOT = Path(__file__).resolve().parents[2]
RECORDS = kept.named("*-seed*")
GOLDEN = json.loads((ROOT / "tests" / "reference" / "tables.json").read_text(encoding="utf-8"))
"""SHA-256 (16 digits) of the lines of every table, without the targets of links: its first words."""


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of records of its own."""
    named, keep = kept.named, kept.keep
    monkeypatch.setattr(kept, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(kept, "named", lambda pattern="*": named(pattern, tmp_path / "results"))
    monkeypatch.setattr(kept, "keep", lambda name, record: keep(name, record, tmp_path / "results"))
    return tmp_path / "results"


def tables_of(text: str) -> list[str]:
    blocks = re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE)
    return [re.sub(r"\]\([^)]*\)", "]", block).rstrip("\n") for block in blocks]


def test_pages_come_from_the_records(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    made = tables.generated()
    monkeypatch.setattr(tables, "generated", lambda: made)
    assert tables.main() == 0, "run `make docs`"
    monkeypatch.setattr(tables, "generated", lambda: {ROOT / "README.md": "another"})
    assert tables.main() == 1
    assert capsys.readouterr().out == "README.md is not current\n"


def test_no_digit_of_a_table_changes_unseen() -> None:
    """A table that is measured anew gets its new hash here by hand, in the commit that has its record."""
    pages = [
        *(ROOT / "docs" / name for name in ("results.md", "storage.md")),
        *(ROOT / "docs" / "results").glob("*.md"),
    ]
    found = [block for page in pages for block in tables_of(page.read_text(encoding="utf-8"))]
    there = {hashlib.sha256(block.encode()).hexdigest()[:16] for block in found}
    assert {digest: words for digest, words in GOLDEN.items() if digest not in there} == {}
    assert len(GOLDEN) > 20


def test_records_are_told_once_and_read_back_whole(empty: Path) -> None:
    recipe = {"steps": 3, "lr": 0.1, "train": {"model": "a", "lr": 1e-7}}
    job = {"dataset": "d", "ipc": 1}
    first = {"job": job, "method": recipe, "rows": [{"train": recipe["train"], "values": [0.1, 1 / 3]}]}
    second = {"job": job, "method": {**recipe, "lr": 0.2}, "rows": []}
    for name, record in (("b", second), ("a", first)):
        assert kept.keep(name, record) == empty / "d-ipc1.jsonl"
    assert kept.named() == {"a": first, "b": second}
    assert kept.named("b*") == {"b": second}
    lines = [json.loads(line) for line in (empty / "d-ipc1.jsonl").read_text().splitlines()]
    assert [sorted(line)[0] for line in lines] == ["key", "key", "key", "job", "job"]
    assert sum(line.get("told") == recipe["train"] for line in lines) == 1
    text = (empty / "d-ipc1.jsonl").read_text()
    kept.keep("a", first)  # again: the same bytes
    assert (empty / "d-ipc1.jsonl").read_text() == text
    (empty / "d-ipc1.jsonl").write_text("\n".join(text.splitlines()[1:]))
    with pytest.raises(ValueError, match="no line before it tells"):
        kept.named()
    (empty / "d-ipc1.jsonl").write_text(text)
    (empty / "e.jsonl").write_text(text)
    with pytest.raises(ValueError, match="stands twice"):
        kept.named()
    with pytest.raises(ValueError, match="word of the form"):
        kept.keep("c", {"job": job, "rows": [{"told": 1}]})


def test_a_record_stands_in_the_file_of_its_data_and_budget() -> None:
    for path in kept.RESULTS.glob("*.jsonl"):
        records = dict(kept.read(path))
        assert {kept._stem(record) for record in records.values()} == {path.stem}
        assert kept.text(records) == path.read_text(encoding="utf-8")
        assert "/work/" not in path.read_text(encoding="utf-8")


def test_records_of_another_checkout_are_added(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"row": {"method": "mtt", "dataset": "d", "ipc": 1}, "seconds": 1.5}
    path = tmp_path / "published-d-ipc1-mtt.json"
    path.write_text(json.dumps(record))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(kept, "HERE", tmp_path)
        assert kept.main([str(path)]) == 0
    assert kept.named() == {"published-d-ipc1-mtt": record}
    assert capsys.readouterr().out == "published-d-ipc1-mtt → results/d-ipc1.jsonl\n"


def test_table_of_published_rows_by_hand() -> None:
    record = {
        "row": {"method": "mtt", "dataset": "cifar10", "ipc": 1, "published": {"mean": 0.463, "std": 0.008}},
        "departures": {"experts": [100, 20], "protocol": ["paper", "clean"], "candidate_every": [100, 100]},
        "report": {"rows": [{"values": [0.41, 0.43], "n": 2}]},
        "maximum_on_test": {"mean": 0.445, "iteration": 1500},
        "distill_seconds": 7200.0,
    }
    lines = published.published_table([record])
    assert (
        "| cifar10 | 1 | mtt | 46.3 ± 0.8 | 42.0 ± 1.4 | 2 | 44.5 at 1500 | 7200 | experts 100 → 20, "
        "protocol paper → clean |"
    ) in lines
    assert published.published_table([]) == []


def test_the_tables_of_a_page_stand_between_its_marks() -> None:
    text = "a\n<!-- records: leaderboards -->\nold\n<!-- records: end -->\nb"
    made = tables.filled(text)
    assert made.startswith("a\n<!-- records: leaderboards -->\nLeaderboards, every")
    assert made.endswith("\n<!-- records: end -->\nb")
    assert tables.filled(made) == made
    marks = re.findall(r"<!-- records: (\w+) -->", "".join(map(Path.read_text, tables.PAGES)))
    assert sorted(set(marks) - {"end"}) == sorted(tables.TABLES)


def check_origin(origin: dict[str, Any]) -> None:
    assert origin["commit"]
    assert not origin["commit"].endswith("+")  # measured on committed code
    assert {"seed", "versions", "machine", "threads"} <= set(origin)


SETTINGS = kept.named("settings-*")


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_was_chosen_on_validation_data(name: str) -> None:
    record = SETTINGS[name]
    report, told = record["report"], record["setting"]
    assert (report["split"], report["protocol"]) == ("val", "clean")
    check_origin(report["origin"])
    (row,) = report["rows"]
    assert row["n"] == len(row["values"]) == settings.NETWORKS
    assert row["std"] is not None
    assert row["seconds"] > 0
    assert report["bytes"]["total"] > 0
    listed = {s.name: s for s in settings.SETTINGS}[name]
    assert (told["factor"], told["value"], told["images"]) == (listed.factor, listed.value, listed.images)
    assert told["changes"] == listed.changes
    assert record["method"]["name"] == ("random_labels" if told["images"] == "random" else settings.METHOD)


@pytest.mark.parametrize("name", RECORDS)
def test_record_has_its_birth_certificate(name: str) -> None:
    record = RECORDS[name]
    if "refused" in record:
        check_origin(record["origin"])
        assert record["refused"].startswith("`")  # the library's own words
        return
    report = record["report"]
    assert report["split"] == "test"
    assert report["protocol"] == "clean"
    check_origin(report["origin"])
    if "report_outside" in record:
        (other, *_) = record["report_outside"]["rows"]
        assert (other["model"], other["n"], record["report_outside"]["split"]) == (run.OUTSIDE, 3, "test")
    for row in report["rows"]:
        assert row["n"] == len(row["values"]) >= 3
        assert row["std"] is not None
        assert row["seconds"] > 0
    assert "/" not in str(record.get("method", {}).get("store", ""))


def test_the_method_of_a_record_is_built_again_as_it_says() -> None:
    told = [record.get("method") for record in (*RECORDS.values(), *SETTINGS.values())]
    cells = BOARDS["leaderboard-cifar10-ipc1"]["cells"]
    told += [cell["request"].get("method") for cell in cells]
    made = [(method, value) for method in told if method and (value := rebuild(method)) is not None]
    assert len(made) > 50
    for method, value in made:
        assert method.items() <= {**value.describe(), "train": method["train"], "teacher": method["teacher"]}.items()


def test_a_refusal_is_a_record_and_a_row_of_na(tmp_path: Path, empty: Path) -> None:
    job = run.Job("digits", "infer", 1)
    run.do(job, tmp_path)
    (record,) = kept.named().values()
    assert record["refused"].startswith("`ipc` must be at least 2 for 1 compensator over 10 classes; got 1")
    assert record["job"] == {"dataset": "digits", "method": "infer", "ipc": 1, "seed": 0}
    assert not (tmp_path / "runs" / job.name / "synthetic.safetensors").exists()
    made = (empty / "digits-ipc1.jsonl").read_bytes()
    run.do(job, tmp_path)  # what has its record is not tried again
    assert (empty / "digits-ipc1.jsonl").read_bytes() == made
    lines = decoupled.decoupled_table([record])
    (row,) = [line for line in lines if line.startswith("| digits")]
    head = next(line for line in lines if line.startswith("| data"))
    assert row.count("|") == head.count("|")
    assert row.split("|")[3:5] == [" infer ", " n/a "]
    assert f"n/a: infer on digits, 1 a class: {record['refused']}" in lines
    assert any(job == run.Job("cifar10", "infer", 1) for job in run.JOBS)
    assert dataclasses.replace(job, dataset="cifar10").name == "cifar10-ipc1-infer-seed0"


def cell_of(method: str, seed: int, means: tuple[float, float], **fields: Any) -> dict[str, Any]:
    told = {
        "class": "Recover",
        "name": method,
        "init": "real",
        "iterations": 50,
        "committee": [{"name": "own"}],
        **fields,
    }
    reports = {}
    for report, model, mean in (("report", "convnet", means[0]), ("report_outside", "lenet", means[1])):
        row = {"set": method, "model": model, "values": [mean] * 3, "mean": mean, "n": 3, "steps": 7}
        drawn = {"values": [0.39, 0.41, 0.41, 0.43], "draws": 2, "n": 4}  # means of 0.40 and 0.42
        beside = {**row, "set": "random_labels", "mean": 0.41, **drawn}
        reports[report] = {"rows": [row, beside], "bytes": {"images": 1, "labels": 2}}
    job = {"dataset": "cifar10", "method": method, "ipc": 10, "seed": seed}
    return {"job": job, "method": told, "distill_seconds": 1.0, **reports}


def test_a_committee_is_judged_by_two_students() -> None:
    own = [cell_of("sre2l++", seed, (0.50 + 0.01 * seed, 0.30)) for seed in range(3)]
    others = [cell_of("cvdd", seed, (0.50 + 0.01 * seed, 0.33 + 0.001 * seed)) for seed in range(4)]
    stale = cell_of("cvdd", 9, (0.9, 0.9), iterations=200)  # no SRe2L++ of that preset to be compared with
    first, second = decoupled.pair_lines([*own, *others, stale])
    assert "real images, 50 iterations, student `convnet`, 3 seed(s), paired: +0.0 ± 0.0 points" in first
    assert first.endswith("no difference can be told.")
    half = 4.3027 * 0.1 / 3**0.5  # Student's t with two degrees of freedom; gaps of 3.0, 3.1 and 3.2 points
    assert f"student `lenet`, 3 seed(s), paired: +3.1 ± {half:.1f} points: a committee pays." in second
    assert decoupled.verdict((-0.02, 0.01)) == "a committee does not pay"
    lines = decoupled.decoupled_table([*own, *others[:3]])
    head, _, row, _ = (line.split("|") for line in lines if line.startswith("|"))
    place = [cell.strip() for cell in head].index("outside the committees %")
    test = stats.ttest_ind([0.33, 0.331, 0.332], [0.40, 0.42] * 3, equal_var=False)
    low, high = test.confidence_interval(0.95)
    wanted = ["33.1 ± 0.1", "41.0 ± 1.1", f"{50 * (high + low):+.1f} ± {50 * (high - low):.1f}"]
    assert [cell.strip() for cell in row[place : place + 3]] == wanted


def test_the_outside_student_is_in_no_committee() -> None:
    for method in run.DECOUPLED:
        for row in presets.rows(method):
            if row["tier"] == "cpu":
                families = {str(as_spec(member)).partition("(")[0] for member in row["committee"]}
                assert run.OUTSIDE not in families | {row["train"]["model"].partition("(")[0]}


TINY = {"teacher": {"epochs": 1, "batch_size": 256}, "label_epochs": 1, "candidates": 12, "iterations": 1}
TINY_TRAIN = {"steps": 2, "temperature": 4.0}


def test_a_settings_search_resumes_and_never_reads_the_test_set(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = settings.Setting("preset", "cpu", {**TINY, "train": TINY_TRAIN}, dataset="digits")
    none = settings.Setting("iterations", "0", {**base.changes, "iterations": 0}, dataset="digits")
    real = settings.data("digits", tmp_path)
    seen: list[Split] = []
    score = NetworkPredictor.score
    monkeypatch.setattr(NetworkPredictor, "score", lambda self, split: seen.append(split) or score(self, split))
    for setting in (base, base.random(), none):
        run.once(setting.name, lambda setting=setting: settings.measure(setting, tmp_path, tmp_path / "store"))
    assert len(seen) == 3 * settings.NETWORKS
    assert all(split is real.val for split in seen)
    made = settings_tables.found()
    assert [r["report"]["split"] for r in made] == ["val"] * 3
    assert [r["report"]["rows"][0]["n"] for r in made] == [settings.NETWORKS] * 3
    assert kept.named("*-seed*") == {}  # not the other tables'
    run.once(base.name, lambda: pytest.fail("measured twice"))
    methods = {r["setting"]["images"] + r["setting"]["value"]: r["method"] for r in made}
    assert methods["randomcpu"]["committee"] == methods["recoveredcpu"]["committee"]
    assert methods["randomcpu"]["train"] == methods["recoveredcpu"]["train"]
    assert (methods["recoveredcpu"]["iterations"], methods["recovered0"]["iterations"]) == (1, 0)
    lines = settings_tables.settings_table(made)
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 3  # head, preset, iterations
    assert all(line.count("|") == rows[0].count("|") for line in rows)


def record_of(factor: str, value: str, images: str, values: list[float]) -> dict[str, Any]:
    row = {"values": values, "n": len(values), "steps": 5}
    told = {"factor": factor, "value": value, "images": images, "dataset": "cifar10", "ipc": 10}
    report = {"rows": [row], "bytes": {"images": 1, "labels": 2}}
    return {"setting": told, "report": report, "distill_seconds": 7.0}


def test_settings_table_by_hand() -> None:
    records = [
        record_of("preset", "cpu", "recovered", [0.50, 0.52]),
        record_of("preset", "cpu", "random", [0.48, 0.50]),
        record_of("start", "noise", "recovered", [0.40, 0.42]),
        record_of("temperature", "1", "recovered", [0.60, 0.62]),
        record_of("temperature", "1", "random", [0.61, 0.65]),
    ]
    # variances in points²: four of 2 and one of 8, five degrees of freedom: 16 / 5
    assert settings_tables.pooled(records) == (pytest.approx(0.01 * (16 / 5) ** 0.5), 5)
    lines = settings_tables.settings_table(records)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    half = 2.5706 * (16 / 5) ** 0.5  # Student's t with five degrees of freedom; √(1/2 + 1/2) = 1
    assert rows == [
        ["preset", "cpu", "51.0 ± 1.4", "49.0 ± 1.4", f"+2.0 ± {half:.1f}", "7"],
        ["start", "noise", "41.0 ± 1.4", "49.0 ± 1.4", f"-8.0 ± {half:.1f}", "7"],
        ["**temperature**", "**1**", "61.0 ± 1.4", "63.0 ± 2.8", f"-2.0 ± {half:.1f}", "7"],
    ]
    assert any(line.startswith("Best setting on validation data: temperature 1, 61.0 %") for line in lines)
    assert settings_tables.settings_table([]) == []
    alone = settings_tables.settings_table(records[:1])
    assert [line for line in alone if line.startswith("| **preset")] == [
        "| **preset** | **cpu** | 51.0 ± 1.4 |  |  | 7 |"
    ]


def test_settings_have_names_of_their_own_and_change_what_they_say() -> None:
    names = [setting.name for setting in settings.SETTINGS]
    assert len(set(names)) == len(names)
    assert not any("-seed" in name for name in names)
    base = settings.method(settings.Setting(*settings.PRESET))
    for setting in settings.SETTINGS:
        changed = settings.method(setting)
        assert (changed == base) == (not setting.changes and setting.images == "recovered")
        if setting.images == "random":
            assert (changed.init, changed.iterations) == ("real", 0)
        elif setting.factor in settings.IMAGES:  # so that the preset's random images have the same labels
            assert (changed.teacher, changed.train, changed.label_epochs) == (
                base.teacher,
                base.train,
                base.label_epochs,
            )


@pytest.mark.parametrize("method", run.DECOUPLED)
def test_what_presets_call_measured_has_records(method: str) -> None:
    """Rows for two cores of the methods of the second table; those of trajectory matching have a test of their own."""
    for row in presets.rows(method):
        if row["tier"] != "cpu":
            continue
        if row["run"] != presets.NEVER:
            cell = f"{row['dataset']}-ipc{row['ipc']}-{method}-seed"
            told = [record["method"] for name, record in RECORDS.items() if name.startswith(cell)]
            now = METHODS[method](**presets.preset(method, row["dataset"], row["ipc"], "cpu").fields).describe()
            same = ("iterations", "init", "compensators", "bn_weight", "lr", "label_epochs", "labels")
            assert told, cell
            assert all(one.get(name) == now.get(name) for one in told for name in same), cell
            assert all(one["train"]["steps"] == now["train"]["steps"] for one in told)


BOARDS = kept.named("leaderboard-*")


@pytest.mark.parametrize("name", BOARDS)
def test_leaderboards_are_complete(name: str) -> None:
    told = BOARDS[name]
    for cell in told["cells"]:
        check_origin(cell["origin"])
        assert cell.get("refused") or cell["values"]
    board = name.removeprefix("leaderboard-")
    asked = leaderboards.BOARDS[board]
    assert {row["model"] for row in told["rows"]} >= set(told["models"])
    assert told["models"][0] == asked["models"][0]
    known = ["random", "herding", "full"]
    assert {row["set"] for row in told["rows"]} > {one for one in known if one in asked.get("baselines", known)}


def test_the_page_points_to_every_leaderboard(empty: Path) -> None:
    assert boards.board_lines() == []
    for name in ("b", "a"):
        kept.keep(f"leaderboard-{name}", {"dataset": name})
    (line,) = boards.board_lines()[1:]
    links = "[a](results/leaderboard-a.md), [b](results/leaderboard-b.md)"
    assert line.endswith(f"(`dd.benchmark`; one set a method, but where the name says sets): {links}.")


def test_a_leaderboard_is_written_once(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"data": "digits-graphs", "budget_bytes": 2048, "repeats": 1, "steps": 2, "baselines": ("random",)}
    monkeypatch.setattr(leaderboards, "BOARDS", {"few": few})
    monkeypatch.setattr(leaderboards, "RUNS", tmp_path / "runs")
    assert leaderboards.board("few", tmp_path, None)
    told = kept.named()["leaderboard-few"]
    assert {row["set"] for row in told["rows"]} == {"random", "mirage"}
    assert "| mirage |" in boards.boards()["few"].to_markdown()
    assert not leaderboards.board("few", tmp_path, None)


def test_a_leaderboard_goes_on_from_the_cells_of_its_record(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"data": "digits", "ipc": 1, "repeats": 1, "steps": 2, "preset": "cpu", "baselines": ("random", "full")}
    monkeypatch.setattr(leaderboards, "BOARDS", {"few": few})
    monkeypatch.setattr(leaderboards, "RUNS", tmp_path / "one")
    assert leaderboards.board("few", tmp_path, tmp_path, ["dm"])
    assert not leaderboards.board("few", tmp_path, tmp_path, ["dm"])
    before = kept.named()["leaderboard-few"]["cells"]
    monkeypatch.setattr(leaderboards, "RUNS", tmp_path / "two")  # another machine, another day
    assert leaderboards.board("few", tmp_path, tmp_path, ["dm", "idm"])
    told = kept.named()["leaderboard-few"]
    assert {row["set"] for row in told["rows"]} == {"random", "full", "dm", "idm"}
    assert all(cell in told["cells"] for cell in before), "measured again: their seconds differ"
    monkeypatch.setattr(leaderboards, "SAME_CELLS", {"sets": "few"})
    monkeypatch.setattr(leaderboards, "BOARDS", {"sets": {**few, "methods": ["dm"], "seeds": 2}})
    assert leaderboards.board("sets", tmp_path, tmp_path)
    sets = kept.named()["leaderboard-sets"]["cells"]
    assert [cell in sets for cell in before if cell["set"] in ("random", "dm")] == [True, True]
    assert {row["sets"] for row in kept.named()["leaderboard-sets"]["rows"] if row["set"] == "dm"} == {2}
    values = {**few, "methods": ["dm", leaderboards.random_as("idm")], "seeds": 2}
    monkeypatch.setattr(leaderboards, "BOARDS", {"sets": values})
    assert leaderboards.board("sets", tmp_path, tmp_path)
    assert not leaderboards.board("sets", tmp_path, tmp_path)


def test_the_board_of_hard_labels_has_the_sets_of_the_other_one(
    tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"data": "digits", "methods": ["dm"], "ipc": 1, "repeats": 1, "steps": 2, "baselines": ("random",)}
    monkeypatch.setattr(leaderboards, "BOARDS", {"own": few, "hard": {**few, "recipe": "hard"}})
    monkeypatch.setattr(leaderboards, "SAME_SETS", {"hard": "own"})
    monkeypatch.setattr(leaderboards, "RUNS", tmp_path / "runs")
    assert leaderboards.board("own", tmp_path, tmp_path)
    monkeypatch.setattr(type(METHODS["dm"]()), "distill", None)  # nothing is distilled again
    assert leaderboards.board("hard", tmp_path, tmp_path)
    own, hard = (kept.named()[f"leaderboard-{name}"] for name in ("own", "hard"))
    assert [row["set"] for row in own["rows"]] == [row["set"] for row in hard["rows"]] == ["random", "dm"]
    assert hard["asked"]["recipe"] == "hard"


def test_the_parts_of_an_interrupted_job_add_up(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"clock": 100.0, "processor": 10.0}

    class Clock:
        monotonic = staticmethod(lambda: now["clock"])
        process_time = staticmethod(lambda: now["processor"])

    def work(*_: object, **__: object) -> Any:
        now.update(clock=now["clock"] + 7, processor=now["processor"] + 3)
        if now["clock"] < 120:
            raise KeyboardInterrupt
        return SimpleNamespace(method={}, provenance={"selection": "by hand"})

    monkeypatch.setattr(run, "time", Clock)
    monkeypatch.setattr(run.dd, "distill", work)
    monkeypatch.setattr(run.dd, "evaluate", lambda *_, **__: SimpleNamespace(to_json=dict))
    job = run.Job("digits", "mtt", 1, seed=1)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run.do(job, Path())
        now.update(clock=now["clock"] + 1)  # between two parts
    run.do(job, Path())
    (record,) = kept.named().values()
    assert (record["distill_seconds"], record["distill_cpu_seconds"], record["wall_seconds"]) == (21.0, 9.0, 21.0)
    assert not list(kept.RUNS.glob("*.json"))


def test_seconds_are_those_of_the_processor_where_they_are_recorded() -> None:
    assert kept.spent({"distill_seconds": 9.0, "distill_cpu_seconds": 4.0}) == 4.0
    assert kept.spent({"distill_seconds": 9.0}) == 9.0


def test_the_networks_of_one_draw_are_one_value() -> None:
    """The spread of random pictures was over the networks of all draws, and said to be over draws."""
    scores = [0.1, 0.3, 0.2, 0.4, 0.5, 0.7]
    assert values.drawn({"set": "random", "values": scores}) == pytest.approx((0.2, 0.3, 0.6))
    assert values.drawn({"set": "random", "values": scores, "draws": 2}) == pytest.approx((0.2, 1.6 / 3))
    assert values.drawn({"set": "class_mean", "values": scores}) == tuple(scores)
