"""What every benchmark shares: parts that are kept, options, digits."""

import json
import math

import pytest

from benchmarks.harness import study as harness
from benchmarks.harness.study import Figures, Study, as_json, significant, table


def made_of(values, **more):
    """A benchmark that yields these parts and shows one number of each."""

    def measure(options):
        yield from values.items()

    def tables(numbers):
        return {part: table(["part", "value"], [[part, found["value"]]]) for part, found in numbers.items()}

    return Study("one", "one", measure, tables, **more)


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Where `--record` writes."""
    monkeypatch.setattr(harness, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(harness, "PICTURES", tmp_path / "images")
    (tmp_path / "images").mkdir()
    return tmp_path


def test_a_second_run_keeps_the_parts_of_the_first_and_replaces_its_own(tmp_path):
    assert made_of({"a": {"value": 1}, "b": {"value": 2}}).main(["--out", str(tmp_path)]) == 0
    made_of({"b": {"value": 3}}).main(["--out", str(tmp_path), "--seeds", "7"])
    kept = Figures.read(tmp_path / "one.json")
    assert kept.numbers == {"a": {"value": 1}, "b": {"value": 3}}
    assert [kept.made[part]["seeds"] for part in "ab"] == [[0, 1, 2], [7]]


def test_runs_at_one_time_keep_each_others_parts(tmp_path):
    def measure(options):
        yield "a", {"value": 1}
        made_of({"b": {"value": 2}}).main(["--out", str(tmp_path)])
        yield "c", {"value": 3}

    Study("one", "", measure, lambda numbers: {}).main(["--out", str(tmp_path)])
    assert list(Figures.read(tmp_path / "one.json").numbers) == ["a", "b", "c"]


def test_a_run_that_is_killed_keeps_what_it_has_measured(tmp_path):
    def measure(options):
        yield "a", {"value": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study("one", "", measure, lambda numbers: {}).main(["--out", str(tmp_path)])
    assert Figures.read(tmp_path / "one.json").numbers == {"a": {"value": 1}}


def test_without_a_folder_nothing_is_written_and_the_table_is_shown(places, capsys):
    made_of({"a": {"value": 0.123456789}}).main([])
    assert "| a    | 0.123457 |" in capsys.readouterr().out
    assert [path.name for path in places.rglob("*")] == ["images"]


def test_record_keeps_the_numbers_and_the_pictures_that_pages_show(places):
    (places / "images" / "shown.png").write_text("old")

    def draw(numbers, folder):
        for name in ("shown", "other"):
            (folder / f"{name}.png").write_text(f"{numbers['a']['value']}")

    made_of({"a": {"value": 5}}, draw=draw).main(["--record"])
    assert Figures.read(places / "figures" / "one.json").numbers == {"a": {"value": 5}}
    assert {path.name: path.read_text() for path in (places / "images").iterdir()} == {"shown.png": "5"}


@pytest.mark.parametrize("other", [["--quick"], ["--out", "folder"]])
def test_record_is_for_whole_runs_and_one_place(other, capsys):
    with pytest.raises(SystemExit):
        made_of({}).main(["--record", *other])
    assert "--record" in capsys.readouterr().err


def test_the_exit_status_says_whether_the_limits_hold():
    assert [made_of({"a": {"value": 1}}, passes=lambda found, ok=ok: ok).main([]) for ok in (True, False)] == [0, 1]


def test_what_is_kept_reads_as_it_was_written(tmp_path):
    numbers = as_json({"a": [0.1 + 0.2, math.inf, None, [1, 2]], "b": {3: "text, with  [brackets] "}, "c": []})
    Figures(numbers, {}).write(tmp_path / "one.json")
    assert Figures.read(tmp_path / "one.json").numbers == numbers == json.loads(json.dumps(numbers))
    assert numbers["a"][0] == 0.3 and numbers["b"] == {"3": "text, with  [brackets] "}


def test_a_table_tells_how_its_own_part_was_made_and_others_how_all_were():
    of = {"versions": {"torch": "9"}, "threads": 1, "processor": "a CPU", "seeds": [], "date": "2026-01-31"}
    commands = {"a": "x", "b": "x", "c": "y", "d, 6": "z", "d, 8": "z"}
    figures = Figures({}, {part: {**of, "command": command} for part, command in commands.items()})
    lines = {name: figures.source(name).count("\n") + 1 for name in ("a", "b, more", "all", "bc", "d")}
    assert lines == {"a": 1, "b, more": 1, "all": 3, "bc": 3, "d": 1}
    assert figures.source("c") == "*Measured on 2026-01-31 by `y`, with torch 9 on 1 thread of a CPU.*"


def test_a_mean_has_its_range_and_three_digits():
    assert significant([1e-6, 3e-6]) == "2e-06 (1e-06 to 3e-06)"
    assert significant([None]) == "none" and significant([0.25, None, 0.75]) == "0.5 (0.25 to 0.75), 1 without"
