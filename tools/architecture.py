"""Drawings of EfficientNet-B0 as SVG, made from the network that ``efficientnet`` builds of ``B0_BLOCKS``.

    python -m tools.architecture

Writes notebooks/images: b0.svg, b0_tall.svg for narrow screens, and a strip "you are here" for each of the notebooks
01 to 06. On the site's first page the drawing of B0 is a map (tools/architecture_map.py).
"""

from dataclasses import dataclass, replace
from functools import cache
from html import escape
from itertools import groupby

import keras

from effnet_utils.blocks import BlockArgs
from effnet_utils.model import B0_BLOCKS, efficientnet
from effnet_utils.plots import COLOR_OF, COLORS
from effnet_utils.scaling import count_macs
from tools.notebooks import ROOT

IMAGES = ROOT / "notebooks" / "images"
# The files have a ground of their own, so that they can be read whatever the page's colour.
LIGHT = "--ink: #1f2328; --ground: #ffffff"
DARK = "--ink: #e6edf3; --ground: #14181e"
STYLE = f"""<style>
.b0 {{ {LIGHT} }}
@media (prefers-color-scheme: dark) {{ .b0 {{ {DARK} }} }}
.b0 text {{ fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", Arial, sans-serif }}
.b0 .small {{ font-size: 12px }}
.b0 .ground {{ fill: var(--ground) }}
.b0 .press {{ fill: transparent }}
.b0 .resolution {{ fill: {COLOR_OF["resolution"]} }}
.b0 .channels {{ fill: {COLOR_OF["width"]} }}
.b0 .box {{ fill: {COLOR_OF["depth"]}; fill-opacity: 0; stroke: {COLOR_OF["depth"]}; stroke-width: 1.5 }}
.b0 .five {{ fill-opacity: 0.45 }}
.b0 .plain {{ stroke: #808080 }}
.b0 .se {{ fill: {COLORS[2]} }}
.b0 .line {{ fill: none; stroke: var(--ink); stroke-opacity: 0.75; stroke-width: 1.2 }}
</style>"""


# --- What is drawn ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The image, the stem, a block, the head or the classifier. Shapes are (height, width, channels) or (channels,)."""

    name: str  # "1a" to "7a" for a block
    group: str  # "stage 1" to "stage 7" for a block, else the part's name
    args: BlockArgs | None
    input_shape: tuple
    output_shape: tuple
    parameters: int
    macs: int

    @property
    def resolution(self):
        return self.output_shape[0] if len(self.output_shape) == 3 else 1

    @property
    def channels(self):
        return self.output_shape[-1]

    @property
    def skip(self):
        return bool(self.args) and self.args.strides == 1 and self.args.input_filters == self.args.output_filters


@cache
def parts():
    """The parts of B0 in order; together they have all of its layers."""
    network = efficientnet("b0")

    def part(name, group, *prefixes, args=None):
        layers = [layer for layer in network.layers if layer.name.startswith(prefixes)]
        piece = keras.Model(layers[0].input, layers[-1].output)
        shapes = piece.input_shape[1:], piece.output_shape[1:]
        return Part(name, group, args, *shapes, piece.count_params(), count_macs(piece))

    blocks = []
    for number, stage in enumerate(B0_BLOCKS, start=1):
        for repeat in range(stage.num_repeat):
            args = stage if repeat == 0 else replace(stage, input_filters=stage.output_filters, strides=1)
            name = f"{number}{chr(ord('a') + repeat)}"
            blocks.append(part(name, f"stage {number}", f"block{name}_", args=args))
    return [
        part("image", "image", "rescaling"),
        part("stem", "stem", "stem_"),
        *blocks,
        part("head", "head", "top_conv", "top_bn", "top_activation"),
        part("classifier", "classes", "avg_pool", "top_dropout", "predictions"),
    ]


def description():
    """The drawing in words."""
    blocks = [part for part in parts() if part.args]
    stages = [list(group)[-1] for _, group in groupby(blocks, key=lambda part: part.group)]
    image, stem, *_, head, classifier = parts()
    channels = ", ".join(str(part.channels) for part in stages)
    return (
        f"EfficientNet-B0 to scale, from an image of {image.resolution} by {image.resolution} pixels over the stem and "
        f"{len(blocks)} MBConv blocks in {len(stages)} stages to {classifier.channels} classes. The resolution falls "
        f"from {image.resolution} to {head.resolution}. The channels go from {stem.channels} in the stem down to "
        f"{stages[0].channels} in stage 1, and grow from there: {channels}, and {head.channels} in the head."
    )


# --- The drawing --------------------------------------------------------------------------------------------------


def rect(x, y, width, height, kind):
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:.4g}" height="{height:.4g}"/>'


def text(x, y, words, anchor="middle", kind=""):
    """Words whose middle is at the height ``y``."""
    return f'<text class="{kind}" x="{x:g}" y="{y + 4.5:g}" text-anchor="{anchor}">{escape(words)}</text>'


def line(*points, arrow=False):
    """A line through the points; with ``arrow`` with a head at its end."""
    path = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
    if arrow:
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        x, y = x1 - 4 * dx, y1 - 4 * dy
        path += f" M{x + 3 * dy:g},{y + 3 * dx:g} L{x1:g},{y1:g} L{x - 3 * dy:g},{y - 3 * dx:g}"
    return f'<path class="line" d="{path}"/>'


def svg(width, height, title, body, kind):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="b0 {kind}" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" aria-label="{escape(title)}">\n{STYLE}\n'
        f"{rect(0, 0, width, height, 'ground')}\n{body}\n</svg>\n"
    )


def box(x, y, part):
    """The operation of a part around (x, y): kernel, stride, expansion ratio, SE block."""
    if part.args:
        above, below = f"{part.args.kernel_size}×{part.args.kernel_size}", f"×{part.args.expand_ratio}"
        kind = "box five" if part.args.kernel_size == 5 else "box"
    else:
        above, below = {"stem": ("3×3", "conv"), "head": ("1×1", "conv"), "classifier": ("mean", "dense")}[part.name]
        kind = "box plain"
    halves = part.name != "classifier" and part.resolution < part.input_shape[0]
    drawn = [rect(x - 21, y - 18, 42, 36, kind)]
    drawn += [text(x + 2 * halves, y - 8, above, kind="small"), text(x, y + 9, below, kind="small")]
    if halves:
        drawn.append(DOWN.format(x - 16, y - 8))
    if part.args and part.args.se_ratio:
        drawn.append(SE.format(x + 15, y + 10))
    return " ".join(drawn)


DOWN = '<path class="line" d="M{0:g},{1:g} m0,-5 v10 m-3,-4 l3,4 l3,-4"/>'
SE = '<circle class="se" cx="{:g}" cy="{:g}" r="4"/>'
# (sign, drawn around (0, 0); what it says)
LEGEND = (
    (rect(-14, -6, 28, 12, "resolution"), "resolution, linear scale"),
    (rect(-14, -6, 28, 12, "channels"), "channels, linear scale"),
    (rect(-15, -7, 14, 14, "box") + rect(2, -7, 14, 14, "box five"), "MBConv, kernel 3×3 or 5×5"),
    (text(0, 0, "×6"), "expansion ratio"),
    (DOWN.format(0, 0), "stride 2: half the resolution"),
    (SE.format(0, 0), "with an SE block"),
    (line((-14, 5), (-14, -5), (12, -5), (12, 5), arrow=True), "skip connection"),
)


def drawing(tall=False):
    """B0 as the text of an SVG: a box for each part, to one side of it its resolution, to the other its channels.

    Args:
        tall: True for a column that fits a phone, False for a row.

    Returns:
        str. Each part is a group with the part's name as its ``data-part``.
    """
    # Along the network and across it; in a column across is x, in a row y.
    pitch, box_along, box_across = (42, 36, 42) if tall else (47, 42, 36)
    per_pixel, per_channel = (0.35, 0.062) if tall else (0.5, 0.1)
    width, axis, start = (360, 190, 26) if tall else (956, 182, 31)
    half = box_across / 2

    def at(along, across):
        return (axis + across, along) if tall else (along, axis + across)

    def span(along, across, length, kind, thickness=pitch - 6):
        """A bar with its middle at ``along``, from ``across`` on."""
        x, y = at(along - thickness / 2, across)
        if tall:
            return rect(x, along - thickness / 2, length, thickness, kind)
        return rect(along - thickness / 2, y, thickness, length, kind)

    def bars(part):
        return half + 13, part.resolution * per_pixel, half + 7, part.channels * per_channel

    body = []
    for index, part in enumerate(parts()):
        along = start + pitch * index
        above, up, below, down = bars(part)
        drawn = [span(along, -above - up, up, "resolution"), span(along, below, down, "channels")]
        if part.name != "image":
            drawn += [line(at(along - pitch + box_along / 2, 0), at(along - box_along / 2, 0))] if index > 1 else []
            drawn.append(box(*at(along, 0), part))
        if part.skip:
            ends = (along - pitch / 2, along + pitch / 2)
            points = [at(ends[0], 0), at(ends[0], -half - 8), at(ends[1], -half - 8), at(ends[1], -1)]
            drawn.append(line(*points, arrow=True))
        press = span(along, -above - up - 1, above + up + below + down + 2, "press", pitch)
        body.append(f'<g class="part" data-part="{part.name}">{press}{"".join(drawn)}</g>')
    for name, group in groupby(enumerate(parts()), key=lambda each: each[1].group):
        group = list(group)
        along = start + pitch * (group[0][0] + group[-1][0]) / 2
        above, up, below, down = bars(group[0][1])
        resolution, channels = f"{group[0][1].resolution}", f"{group[0][1].channels:,}"
        if tall:
            body += [text(4, along, name, "start"), text(axis - above - up - 5, along, resolution, "end")]
            body.append(text(axis + below + down + 5, along, channels, "start"))
        else:
            body += [text(along, 12, name), text(along, axis - above - up - 9, resolution)]
            body.append(text(along, axis + below + down + 10, channels))
    end = start + pitch * len(parts()) if tall else axis + 190
    columns = 1 if tall else 4
    for index, (sign, words) in enumerate(LEGEND):
        row, column = divmod(index, columns)
        x, y = 24 + 236 * column, end + 22 * row
        body.append(f'<g transform="translate({x} {y})">{sign}</g>' + text(x + 22, y, words, "start"))
    height = end + 22 * -(-len(LEGEND) // columns)
    return svg(width, height, description(), "\n".join(body), "tall" if tall else "wide")


# --- You are here ---------------------------------------------------------------------------------------------------

# Parts of a block, in the order of computation: (name, label, width).
INSIDE = (
    ("expand", "expand", 50), ("swish", "swish", 42), ("depthwise", "depthwise", 68), ("swish", "swish", 42),
    ("se", "SE", 28), ("project", "project", 50), ("skip", "+", 18),
)  # fmt: skip
BLOCK = {name for name, _, _ in INSIDE}
AXES = (("depth", "more blocks", 104), ("width", "more channels", 110), ("resolution", "larger images", 108))
# What each notebook builds, and which parts of the block these are.
HERE = {
    "01": ("swish, the activation in every block", {"swish"}),
    "02": ("squeeze-and-excitation, in every block", {"se"}),
    "03": ("the inverted residual, in every block", {"expand", "depthwise", "project", "skip"}),
    "04": ("MBConv, the whole block", BLOCK),
    "05": ("EfficientNet-B0, the whole network", BLOCK),
    "06": ("from B0 to B7: the network grows", {"depth", "width", "resolution"}),
}
ZOOMED = "4b"  # the block whose inside is shown: it has all the parts


def strip(number):
    """The text of a small SVG: the network as its feature maps, a block from inside, the notebook's part in colour."""
    title, lit = HERE[number]
    pitch, row, below = 17, 45, 96
    drawn = [f'<text x="10" y="19" font-weight="bold">You are here: {title}</text>']
    for index, part in enumerate(parts()):
        height = max(1, 0.16 * part.resolution)
        on = number in ("05", "06") or part.name == ZOOMED
        drawn.append(rect(11 + pitch * index, row - height / 2 + 4, 12, height, "on" if on else "off"))
        if part.name == ZOOMED and number != "06":
            left, right = 9 + pitch * index, 25 + pitch * index
            drawn.append(f'<path class="off" d="M{left},{row + 8} L8,{below - 15} H352 L{right},{row + 8} z"/>')
    x = 12
    chips = AXES if number == "06" else INSIDE
    for name, label, width in chips:
        color = COLOR_OF.get(name, COLORS[0]) if name in lit else "#eeeeee"
        ink = "#ffffff" if name in lit & BLOCK else "#1f2328"
        chip = f'<rect x="{x}" y="{below - 12}" width="{width}" height="24" rx="4" fill="{color}"/>'
        drawn.append(
            chip + f'<text x="{x + width / 2:g}" y="{below + 4}" text-anchor="middle" fill="{ink}">{label}</text>'
        )
        x += width + 6
    style = (
        "<style>text { font: 12px system-ui, -apple-system, 'Segoe UI', Arial, sans-serif }"
        f".on {{ fill: {COLORS[0]} }} .off {{ fill: #d5d5d5 }}</style>"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="480" height="160" viewBox="0 0 360 120" role="img" '
        f'aria-label="You are here: {title}">\n{style}\n<rect width="360" height="120" rx="6" fill="#ffffff"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


# --- The files -----------------------------------------------------------------------------------------------------


def files():
    """{name: content} of all that this draws."""
    strips = {f"here_{number}.svg": strip(number) for number in HERE}
    return {"b0.svg": drawing(), "b0_tall.svg": drawing(tall=True), **strips}


def main():
    for name, content in files().items():
        (IMAGES / name).write_text(content, encoding="utf-8")
    print(f"{IMAGES.relative_to(ROOT)}:", ", ".join(files()))


if __name__ == "__main__":
    main()
