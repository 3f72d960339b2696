"""The benchmarks of cost and of the cold start, at sizes that take seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from effnet_utils import plots

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import cold_start  # noqa: E402
import cost  # noqa: E402


def test_spread_holds_quartiles_with_four_digits():
    found = cost.spread([4.00004, 1, 2, 3, 5])
    assert found == {"min": 1, "quartile_1": 2, "median": 3, "quartile_3": 4, "max": 5}


def in_order(spread):
    return list(spread.values()) == sorted(spread.values())


@pytest.mark.slow
def test_cost_at_a_tiny_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    cost.main(["--tiny"])
    record = json.loads((tmp_path / "runs" / "cost_tiny.json").read_text())
    table = capsys.readouterr().out
    assert in_order(record["peak"]["operations_per_second"]) and record["peak"]["operations_per_second"]["min"] > 1e8
    for series, points in cost.tiny_plan()[0].items():
        rows = record["series"][series]
        assert [row["point"] for row in rows] == list(points)
        mult_adds = [row["mult_adds"] for row in rows]
        assert mult_adds == sorted(set(mult_adds)) and mult_adds[0] > 0
        for row in rows:
            assert f"{row['point']:>8} {row['mult_adds'] / 1e6:>9.0f} M" in table
            for mode in ("train", "inference"):
                seconds, share = row["seconds"][mode], row["share_of_peak"][mode]
                assert in_order(seconds) and seconds["min"] > 0
                assert in_order(share) and 0 < share["min"] and share["max"] < 1.2
                assert row["compile_seconds"][mode] > 0
            # A training step does what inference does, and twice as much again.
            assert row["seconds"]["train"]["median"] > row["seconds"]["inference"]["median"]
    images = record["series"]["images"]
    assert images[1]["mult_adds"] == 4 * images[0]["mult_adds"]


def made_up():
    def row(point, mult_adds, share):
        seconds = {mode: n * mult_adds / (share * 1e11) for mode, n in (("train", 6), ("inference", 2))}
        return {
            "point": point,
            "mult_adds": mult_adds,
            "seconds": {mode: {"median": value} for mode, value in seconds.items()},
            "share_of_peak": {mode: {"median": share} for mode in seconds},
        }

    return {
        "series": {
            "images": [row("8", 1e8, 0.1), row("32", 4e8, 0.2)],
            "variant": [row("B0", 2e8, 0.12), row("B7", 26e8, 0.24)],
        },
        "peak": {"operations_per_second": {"median": 1e11}},
    }


def test_figure_shows_the_record(tmp_path):
    record = made_up()
    fig, alt = cost.draw(record)
    fig.savefig(tmp_path / "cost.png")
    for ax, (mode, operations) in zip(fig.axes, {"train": 6, "inference": 2}.items(), strict=True):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        images, variant, peak = ax.lines
        assert list(images.get_xdata()) == [1e8, 4e8] and list(variant.get_xdata()) == [2e8, 26e8]
        assert list(variant.get_ydata()) == [row["seconds"][mode]["median"] for row in record["series"]["variant"]]
        assert list(peak.get_xdata()) == [1e8, 26e8]
        assert peak.get_ydata() == pytest.approx([operations * 1e-3, operations * 26e-3])
        assert "10% to 24%" in ax.get_title(loc="left")
    labels = {text.get_text(): text for text in fig.axes[1].texts}
    assert set(labels) == {"images 8 to 32", "variant B0 to B7", "peak: matrix product"}
    assert to_hex(labels["variant B0 to B7"].get_color()) == to_hex(plots.COLORS[1])
    assert "variant B0 to B7: 13 times the mult-adds take 6.5 times as long in training" in alt


def test_figure_labels_do_not_overlap():
    record = made_up()
    # Four lines that end in the same point.
    record["series"] = {name: record["series"]["variant"] for name in ("a", "b", "c", "d")}
    fig, _ = cost.draw(record)
    fig.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in fig.axes[1].texts), key=lambda box: box.y0)
    assert len(boxes) == 5
    for lower, upper in zip(boxes, boxes[1:], strict=False):
        assert lower.y1 <= upper.y0 + 1


def test_figure_option_draws_the_record_and_says_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "RECORD", tmp_path / "cost.json")
    with pytest.raises(SystemExit):
        cost.main(["--figure", str(tmp_path / "cost.png")])
    assert "cost.json is not there" in capsys.readouterr().err
    (tmp_path / "cost.json").write_text(json.dumps(made_up()))
    cost.main(["--figure", str(tmp_path / "cost.png")])
    assert (tmp_path / "cost.png").stat().st_size > 5000
    assert "times the mult-adds" in capsys.readouterr().out


def test_imports_are_timed_in_fresh_interpreters(monkeypatch):
    # The statements that bring Keras in take seconds each.
    quick = ("pass", "import numpy", "import effnet_utils")
    assert set(quick) < set(cold_start.STATEMENTS)
    monkeypatch.setattr(cold_start, "STATEMENTS", quick)
    found = cold_start.imports(3)
    assert set(found) == set(quick)
    for row in found.values():
        assert in_order(row["seconds"]) and row["seconds"]["min"] > 0
    assert found["pass"]["beyond_python"]["max"] == 0
    assert found["import numpy"]["beyond_python"]["median"] > 0
    # It imports Keras when it is first needed, not before.
    assert found["import effnet_utils"]["beyond_python"]["median"] < found["import numpy"]["beyond_python"]["median"]


def test_statement_that_fails_stops_the_measurement(monkeypatch):
    monkeypatch.setattr(cold_start, "STATEMENTS", ("pass", "import no_such_package"))
    with pytest.raises(subprocess.CalledProcessError):
        cold_start.imports(1)


MAKEFILE = """
run: .venv/.stamp
	mkdir -p runs/07/now
	echo '{"environment": {"commit": "abc"}, "parameters": {"epochs": 3},' > runs/07/now/record.json
	echo '"seconds": {"train": 1.5}, "results": {"test_accuracy": 0.75}}' >> runs/07/now/record.json
	test "$(ARGS)" = "$(WANTED)"
.venv/.stamp:
	mkdir -p .venv && printf 12345 > .venv/package && touch $@
"""


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="needs make and a POSIX shell")
def test_clone_is_set_up_and_run(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "Makefile").write_text(MAKEFILE)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "Makefile"], ["commit", "--quiet", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    # Of a make around this process, nothing may reach the clone's.
    monkeypatch.setenv("ARGS", "--tiny")
    found = cold_start.from_clone(repository)
    assert set(found["seconds"]) == {"clone", "set-up", "run", "total"} and min(found["seconds"].values()) > 0
    assert found["seconds"]["total"] == pytest.approx(sum(found["seconds"].values()) / 2, abs=0.02)
    assert found["venv_bytes"] == 5
    assert found["run"]["test_accuracy"] == 0.75 and found["run"]["commit"] == "abc"
    assert "network" in found["downloads"]
    assert cold_start.from_clone(repository, ["ARGS=a b", "WANTED=a b"])["run"] == found["run"]
    with pytest.raises(subprocess.CalledProcessError):
        cold_start.from_clone(repository, ["WANTED=other"])
