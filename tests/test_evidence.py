"""Verdicts on differences: by hand, against tables, and how often they are right in simulations."""

import math

import numpy as np
import pytest

from effnet_utils import evidence
from effnet_utils.evidence import DIFFERENCE, NOT_SEEN, TOO_FEW, compare

MANY = 10**12  # images, so that their sampling plays no part


def table(**rows):
    """Accuracies in percent -> what ``compare`` takes."""
    return {name: {seed: value / 100 for seed, value in enumerate(values)} for name, values in rows.items()}


# Any table of Student's t.
@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 4, 2.776), (0.995, 10, 3.169), (0.95, 30, 1.697), (0.8, 22, 0.858)],
)
def test_t_quantile(probability, degrees, expected):
    found = evidence.t_quantile(probability, degrees)
    assert found == pytest.approx(expected, abs=5e-4)
    assert evidence.two_sided_p(found, degrees) == pytest.approx(2 * (1 - probability), rel=1e-6)


@pytest.mark.parametrize("t", [0, 0.3, 2, 50])
def test_two_sided_p(t):
    assert evidence.two_sided_p(t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi)
    assert evidence.two_sided_p(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t))
    normal = math.erfc(t / math.sqrt(2))
    assert evidence.two_sided_p(t, math.inf) == pytest.approx(normal, abs=1e-3)


def test_two_rows_are_a_paired_t_test():
    accuracies = table(base=(50, 60, 55), row=(53, 66, 55))
    assert evidence.run_to_run_sd(accuracies) == (pytest.approx(3 / math.sqrt(2)), 2)
    (row,) = compare(accuracies, "base", MANY)
    assert row.gains == pytest.approx((3, 6, 0)) and row.mean == pytest.approx(3)
    half = 4.3027 * 3 / math.sqrt(3)  # differences 3, 6, 0: their standard deviation is 3
    assert (row.low, row.high) == (pytest.approx(3 - half, abs=1e-3), pytest.approx(3 + half, abs=1e-3))
    assert row.verdict == NOT_SEEN


def test_deviations_are_pooled_and_seeds_are_blocks():
    rows = {"base": (50, 61, 55), "calm": (52, 62, 57), "wild": (40, 58, 40)}
    values = np.array(list(rows.values()), float)
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    assert evidence.run_to_run_sd(table(**rows)) == (pytest.approx(np.sqrt(np.sum(left**2) / 4)), 4)
    shifted = {name: np.add(row, (0, 20, -9)) for name, row in rows.items()}  # what is common to a seed cancels
    assert evidence.run_to_run_sd(table(**shifted))[0] == pytest.approx(evidence.run_to_run_sd(table(**rows))[0])
    calm, wild = compare(table(**rows), "base", MANY)
    assert wild.high - wild.low == pytest.approx(calm.high - calm.low), "the intervals are equally wide"


def test_holm_by_hand_and_the_interval_excludes_zero_exactly_for_a_difference():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        rows = {f"row{k}": 60 + k + rng.normal(0, 1, 3) for k in range(5)}
        accuracies = table(base=60 + rng.normal(0, 1, 3), **rows)
        sd, degrees = evidence.run_to_run_sd(accuracies)
        assert degrees == 10
        verdicts = sorted(compare(accuracies, "base", MANY), key=lambda row: -abs(row.mean))
        expected = 0
        for place, row in enumerate(verdicts):
            raw = evidence.two_sided_p(abs(row.mean) / (sd * math.sqrt(2 / 3)), degrees)
            expected = max(expected, min(1, (5 - place) * raw))
            assert row.p == pytest.approx(expected, rel=1e-4)
            assert (row.verdict == DIFFERENCE) == (row.p <= 0.05) == (row.low > 0 or row.high < 0)
        seen.add(sum(row.verdict == DIFFERENCE for row in verdicts))
    assert len(seen) >= 4, "tables with few and with many differences"


def test_too_few_seeds():
    accuracies = table(base=(50, 51, 50), row=(60, 61, 61), late=(55, 56, 54))
    alone = accuracies | {"single": {1: 0.58}, "elsewhere": {7: 0.58, 8: 0.57}}
    row, late, single, elsewhere = compare(alone, "base", 5000)
    assert [row, late] == compare(accuracies, "base", 5000), "a row that is not judged changes nothing"
    assert single.verdict == elsewhere.verdict == TOO_FEW
    assert single.gains == (pytest.approx(7),) and math.isnan(single.low) and math.isnan(elsewhere.mean)
    (one,) = compare(table(base=(50,), row=(60,)), "base", 5000)
    assert one.verdict == TOO_FEW
    lines = evidence.report([single, row]).splitlines()
    assert lines[0].split() == ["points", "interval", "p", "(Holm)", "verdict"]
    assert lines[1].startswith("row      +10.3  [ +") and lines[1].endswith("< 0.001  difference")
    assert lines[2].split(maxsplit=2) == ["single", "+7.0", TOO_FEW]


def test_images_part_of_accuracies():
    accuracies = table(base=(50, 50), row=(60, 60))  # without any noise from run to run
    (row,) = compare(accuracies, "base", 1000)
    half = 1.962 * 100 * math.sqrt((0.5 * 0.5 + 0.6 * 0.4) / 1000)
    assert (row.low, row.high) == (pytest.approx(10 - half, abs=2e-3), pytest.approx(10 + half, abs=2e-3))
    more = compare(table(base=[50] * 40, row=[60] * 40), "base", 1000)
    assert more[0].high == pytest.approx(row.high), "more seeds do not make it smaller"
    with pytest.raises(ValueError, match="images is None"):
        compare(accuracies, "base")
    with pytest.raises(ValueError, match="fractions"):
        compare({"base": {0: 50.0}, "row": {0: 60.0}}, "base", 1000)


def test_images_part_of_right_and_wrong():
    """Two networks that fail on the same images but for a few: the interval is that of the few."""
    base, row = np.zeros(1000, bool), np.zeros(1000, bool)
    base[:600] = row[:620] = True
    accuracies = {"base": {0: base, 1: base}, "row": {0: row, 1: row}}
    (found,) = compare(accuracies, "base")
    half = 1.962 * 100 * math.sqrt(0.02 * 0.98 / 999)
    assert (found.low, found.high) == (pytest.approx(2 - half, abs=2e-3), pytest.approx(2 + half, abs=2e-3))
    assert found.verdict == DIFFERENCE
    means = {name: {seed: right.mean() for seed, right in runs.items()} for name, runs in accuracies.items()}
    assert compare(means, "base", 1000)[0].verdict == NOT_SEEN


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_true_difference(seeds):
    """95 % of the intervals of one row, at least as many of several; runs vary by 1.5 points, seeds by 3."""
    rng = np.random.default_rng(seeds)

    def coverage(tables, rows):
        hits = []
        for _ in range(tables):
            seed_effect = rng.normal(0, 3, seeds)
            runs = {name: 60 + seed_effect + rng.normal(0, 1.5, seeds) for name in ("base", *map(str, range(rows)))}
            hits += [row.low <= 0 <= row.high for row in compare(table(**runs), "base", MANY)]
        return np.mean(hits)

    assert 0.92 < coverage(400, 1) < 0.98
    assert coverage(60, 4) > 0.95


@pytest.mark.parametrize("whole", [True, False], ids=["right or wrong", "accuracies"])
def test_intervals_hold_the_difference_on_new_images(whole):
    """300 images are drawn, each easy or difficult for both networks; three seeds see the same ones."""
    rng = np.random.default_rng(whole)
    hits = []
    for _ in range(300):
        easy = rng.beta(1.5, 1, 300)
        chances = {"base": easy, "row": np.where(rng.random(300) < 0.3, rng.beta(1.5, 1, 300), easy)}
        right = {name: {seed: rng.random(300) < chance for seed in range(3)} for name, chance in chances.items()}
        if not whole:
            right = {name: {seed: run.mean() for seed, run in runs.items()} for name, runs in right.items()}
        (row,) = compare(right, "base", 300)
        hits.append(row.low <= 0 <= row.high)
    assert np.mean(hits) > 0.93


def test_seldom_is_any_of_many_equal_rows_called_different():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        runs = {name: 60 + rng.normal(0, 1, 3) for name in ("base", *"abcdef")}
        wrong += any(row.verdict == DIFFERENCE for row in compare(table(**runs), "base", MANY))
    assert 0.01 < wrong / 300 < 0.08


def test_smallest_difference_is_seen_as_often_as_it_says():
    rng = np.random.default_rng(0)
    true = evidence.smallest_difference(1.0, seeds=3, rows=1, images=MANY, accuracy=0.6)
    seen = 0
    for _ in range(300):
        runs = {"base": 60 + rng.normal(0, 1, 3), "row": 60 + true + rng.normal(0, 1, 3)}
        seen += compare(table(**runs), "base", MANY)[0].verdict == DIFFERENCE
    assert 0.72 < seen / 300 < 0.95
    assert evidence.smallest_difference(1.0, 1, 1, 5000, 0.6) == math.inf
