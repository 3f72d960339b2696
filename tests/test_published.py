"""The published figures: the file's form, and what in it this package can compute itself."""

import json
from pathlib import Path

import pytest

from effnet_utils import VARIANTS, compound_coefficients
from effnet_utils.records import read_published

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "published.json").read_text())
TABLES = PUBLISHED["tables"]


@pytest.mark.parametrize("name", TABLES)
def test_form(name):
    """Each table has a source and a place; each value has a column that says what it is, in which unit."""
    table = TABLES[name]
    assert table["source"] in PUBLISHED["sources"] and table["where"].strip()
    assert set(table) <= {"source", "where", "note", "columns", "rows"} and table["rows"]
    assert all(text.strip() for text in table["columns"].values())
    for model, row in table["rows"].items():
        assert row and set(row) <= set(table["columns"]), model
        assert all(isinstance(value, (int, float, str)) for value in row.values()), model
    used = {column for row in table["rows"].values() for column in row}
    assert used == set(table["columns"])


def test_sources_are_used_and_read_with_their_tables():
    assert set(PUBLISHED["sources"]) == {table["source"] for table in TABLES.values()}
    found = read_published("imagenet_v5")
    assert found["source"] == PUBLISHED["sources"]["tan2019_v5"] and found["rows"]["b0"]["top1"] == 77.1
    with pytest.raises(KeyError, match="no table 'imagenet'; tables: imagenet_v1"):
        read_published("imagenet")


def test_versions_agree_on_size_and_cost():
    for model, row in TABLES["imagenet_v1"]["rows"].items():
        other = TABLES["imagenet_v5"]["rows"][model]
        assert (row["params_m"], row["macs_b"]) == (other["params_m"], other["macs_b"])


def test_coefficients_are_those_of_the_package():
    rows = {**TABLES["coefficients"]["rows"], **TABLES["coefficients_lite"]["rows"]}
    assert {name: tuple(row.values()) for name, row in rows.items()} == VARIANTS
    assert all(list(row) == ["width", "depth", "resolution", "dropout"] for row in rows.values())
    grid = TABLES["grid_search"]["rows"]["b0"]
    assert compound_coefficients(1) == (grid["alpha"], grid["beta"], grid["gamma"])


def test_parameters_round_to_the_papers():
    # Table 2 prints 9.2 million for B2; counted are 9.11. All others round to the printed figure.
    for model, row in TABLES["imagenet_v5"]["rows"].items():
        counted = TABLES["trainable"]["rows"][model]["with_top"] / 1e6
        digits = 1 if row["params_m"] < 10 else 0
        assert (round(counted, digits) == row["params_m"]) == (model != "b2"), model


def test_printed_ratios_follow_from_the_printed_sizes():
    ours = TABLES["imagenet_v5"]["rows"]
    for name, row in TABLES["imagenet_others"]["rows"].items():
        base = ours[row["compared_with"]]
        for column in ("params", "macs"):
            unit = {"params": "params_m", "macs": "macs_b"}[column]
            if unit not in row:
                continue
            ratio, printed = row[unit] / base[unit], row[f"{column}_ratio"]
            assert abs(ratio - printed) < 0.06 * printed or (name, column) == ("PNASNet", "macs"), (
                name,
                ratio,
                printed,
            )
