"""The drawings of B0 are drawn from the network, the committed files are up to date, and the map says what is so."""

import ast
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from effnet_utils import B0_BLOCKS, BlockArgs, count_macs, efficientnet
from effnet_utils.plots import COLOR_OF
from tools import architecture, architecture_map
from tools.notebooks import NOTEBOOKS, ROOT, number_of, read

SVG = "{http://www.w3.org/2000/svg}"
PARTS = {part.name: part for part in architecture.parts()}


def test_committed_files_are_what_is_drawn_today():
    for name, content in architecture.files().items():
        assert (architecture.IMAGES / name).read_text(encoding="utf-8") == content, f"{name}: make tables"
        assert name.startswith("b0") or len(content.encode()) <= 8000
    assert {path.name for path in architecture.IMAGES.iterdir() if path.is_file()} == set(architecture.files())


@pytest.mark.parametrize("name", architecture.files())
def test_files_need_nothing_else(name):
    content = architecture.files()[name]
    assert ET.fromstring(content).get("aria-label")
    addresses = set(re.findall(r"https?://[^\"' ]+", content))
    assert addresses == {"http://www.w3.org/2000/svg"} and "<script" not in content and "@import" not in content


def test_parts_are_the_whole_network():
    network = efficientnet("b0")
    parts = list(PARTS.values())
    assert sum(part.parameters for part in parts) == network.count_params()
    assert sum(part.macs for part in parts) == count_macs(network)
    assert [part.output_shape for part in parts[:-1]] == [part.input_shape for part in parts[1:]]
    assert sum(bool(part.args) for part in parts) == sum(stage.num_repeat for stage in B0_BLOCKS) == 16
    for name, part in PARTS.items():
        has_add = any(layer.name == f"block{name}_add" for layer in network.layers)
        assert part.skip == has_add, name


def groups(drawn):
    """{part: its element} of a drawing."""
    found = {group.get("data-part"): group for group in ET.fromstring(drawn).iter(f"{SVG}g")}
    found.pop(None)  # the legend
    return found


def bars(drawn, kind, side):
    """{part: length of its bar}."""
    return {
        name: float(each.get(side))
        for name, group in groups(drawn).items()
        for each in group.findall(f"{SVG}rect")
        if each.get("class") == kind
    }


@pytest.mark.parametrize("tall", (False, True))
def test_bars_are_to_scale_and_signs_are_those_of_the_blocks(tall):
    drawn = architecture.drawing(tall)
    side = "width" if tall else "height"
    resolutions = bars(drawn, "resolution", side)
    channels = bars(drawn, "channels", side)
    assert list(resolutions) == list(channels) == list(PARTS)
    for name, part in PARTS.items():
        assert resolutions[name] / resolutions["image"] == pytest.approx(part.resolution / 224, rel=1e-3)
        assert channels[name] / channels["head"] == pytest.approx(part.channels / 1280, rel=1e-3)
    for name, group in groups(drawn).items():
        part = PARTS[name]
        kinds = [each.get("class") for each in group.iter()]
        words = [each.text for each in group.iter(f"{SVG}text")]
        if part.args:
            assert words == [f"{part.args.kernel_size}×{part.args.kernel_size}", f"×{part.args.expand_ratio}"]
            assert ("se" in kinds) and ("box five" in kinds) == (part.args.kernel_size == 5)


def test_channels_fall_once_and_then_grow():
    said = architecture.description()
    assert "from 32 in the stem down to 16 in stage 1, and grow from there: 16, 24, 40" in said
    channels = [part.channels for part in list(PARTS.values())[2:-1]]
    assert all(one <= other for one, other in pairwise(channels))
    resolutions, head = [part.resolution for part in PARTS.values()], PARTS["head"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"falls from {resolutions[0]} to {head.resolution}; the channels go from 32 in the stem down to 16" in readme
    assert f"grow from there to {head.channels:,} in the head" in readme


def test_strips_are_on_top_of_their_notebooks():
    for path in NOTEBOOKS:
        number = number_of(path)
        first = read(path).cells[0].source
        if number in architecture.HERE:
            title, _ = architecture.HERE[number]
            badge, picture = first.split("\n\n")[1:3]
            assert badge.startswith("[![Open") and picture == f"![You are here: {title}](images/here_{number}.svg)"
    assert COLOR_OF["se"] in architecture.strip("02") and COLOR_OF["se"] not in architecture.strip("01")


def test_map_shows_the_code_that_makes_each_part():
    source = (ROOT / "effnet_utils" / "model.py").read_text(encoding="utf-8").splitlines()
    for part in PARTS.values():
        number, line = architecture_map.code_line(part)
        assert line in source[number - 1]
        told = architecture_map.about(part, "https://example.org/r")
        assert f"<dd>{part.macs:,}</dd>" in told and f"model.py#L{number}" in told
        if part.args:
            values = {each.arg: ast.literal_eval(each.value) for each in ast.parse(line).body[0].value.keywords}
            row = BlockArgs(**values)
            assert row == B0_BLOCKS[int(part.name[0]) - 1]
