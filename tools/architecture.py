"""Drawings of EfficientNet-B0 as SVG, made from the network that ``efficientnet`` builds of ``B0_BLOCKS``.

    python -m tools.architecture

Writes notebooks/images: b0.svg, b0_tall.svg for narrow screens, and a strip "you are here" for each of the notebooks
01 to 06. On the site's first page the drawing of B0 is a map (tools/architecture_map.py).
"""

from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import groupby

import keras

from effnet_utils.blocks import BlockArgs
from effnet_utils.model import B0_BLOCKS, each_block, efficientnet
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

    blocks = [
        part(name, f"stage {name[0]}", f"block{name}_", args=args) for name, args in each_block(B0_BLOCKS).items()
    ]
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


@dataclass(frozen=True)
class Frame:
    """Where things are. Along the network and across it: in a column across is x, in a row it is y.

    Lengths are in units of the drawing; ``axis`` is where the boxes' middle is across, ``start`` that of the first
    part along; ``per_pixel`` and ``per_channel`` are the scales of the bars.
    """

    tall: bool
    width: int
    axis: int
    start: int
    pitch: int
    box_along: int
    box_across: int
    per_pixel: float
    per_channel: float

    def along(self, index):
        return self.start + self.pitch * index

    def at(self, along, across):
        return (self.axis + across, along) if self.tall else (along, self.axis + across)

    def bar(self, along, first, last, thickness, kind):
        """A rectangle around ``along`` that reaches from ``first`` to ``last`` across."""
        x, y = self.at(along - thickness / 2, first)
        size = (last - first, thickness) if self.tall else (thickness, last - first)
        return rect(x, y, *size, kind)

    def ends(self, part):
        """Across: the outer and the inner end of the resolution's bar, the inner and the outer end of the channels'."""
        above, below = -self.box_across / 2 - 13, self.box_across / 2 + 7
        return above - self.per_pixel * part.resolution, above, below, below + self.per_channel * part.channels


ROW = Frame(False, 956, 182, 31, pitch=47, box_along=42, box_across=36, per_pixel=0.5, per_channel=0.1)
COLUMN = Frame(True, 360, 190, 26, pitch=42, box_along=36, box_across=42, per_pixel=0.35, per_channel=0.062)


def draw_part(frame, index, part):
    along = frame.along(index)
    before, after = along - frame.pitch / 2, along + frame.pitch / 2
    outer, above, below, end = frame.ends(part)
    drawn = [
        frame.bar(along, outer - 1, end + 1, frame.pitch, "press"),
        frame.bar(along, outer, above, frame.pitch - 6, "resolution"),
        frame.bar(along, below, end, frame.pitch - 6, "channels"),
    ]
    if index > 1:
        edge = along - frame.box_along / 2
        drawn.append(line(frame.at(edge - frame.pitch + frame.box_along, 0), frame.at(edge, 0)))
    if index > 0:
        drawn.append(box(*frame.at(along, 0), part))
    if part.skip:
        aside = -frame.box_across / 2 - 8
        points = ((before, 0), (before, aside), (after, aside), (after, -1))
        drawn.append(line(*(frame.at(*point) for point in points), arrow=True))
    return f'<g class="part" data-part="{part.name}">{"".join(drawn)}</g>'


def draw_labels(frame):
    """Name, resolution and channels of each stage, in its middle."""
    for name, group in groupby(enumerate(parts()), key=lambda each: each[1].group):
        group = list(group)
        first, part = group[0]
        last, _ = group[-1]
        along = frame.along((first + last) / 2)
        outer, _, _, end = frame.ends(part)
        resolution, channels = f"{part.resolution}", f"{part.channels:,}"
        if frame.tall:
            yield text(4, along, name, "start")
            yield text(frame.axis + outer - 5, along, resolution, "end")
            yield text(frame.axis + end + 5, along, channels, "start")
        else:
            yield text(along, 12, name)
            yield text(along, frame.axis + outer - 9, resolution)
            yield text(along, frame.axis + end + 10, channels)


def drawing(tall=False):
    """B0 as the text of an SVG: a box for each part, to one side of it its resolution, to the other its channels.

    Args:
        tall: True for a column that fits a phone, False for a row.

    Returns:
        str. Each part is a group with the part's name as its ``data-part``.
    """
    frame = COLUMN if tall else ROW
    body = [draw_part(frame, index, part) for index, part in enumerate(parts())]
    body += draw_labels(frame)
    top = frame.along(len(parts())) if tall else frame.axis + 190
    columns = 1 if tall else 4
    for index, (sign, words) in enumerate(LEGEND):
        row, column = divmod(index, columns)
        x, y = 24 + 236 * column, top + 22 * row
        body.append(f'<g transform="translate({x} {y})">{sign}</g>' + text(x + 22, y, words, "start"))
    height = top + 22 * -(-len(LEGEND) // columns)
    return svg(frame.width, height, description(), "\n".join(body), "tall" if tall else "wide")


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
