"""Short animations, drawn from what real layers compute: a depthwise convolution, an MBConv block, stochastic depth.

An animation is stored as an animated PNG, because GitHub shows no GIF that a notebook stores, and a program that knows
no animated PNG shows its first picture, the still. It plays once, for at most five seconds, and ends on the still.
"""

import io

import keras
import numpy as np
from matplotlib import patches
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from effnet_utils import plots, widgets
from effnet_utils.blocks import mbconv_block
from effnet_utils.model import each_block

LONGEST = 5  # seconds; what moves for longer needs a button to stop it (WCAG 2.2.2)
DPI = 200
BLUE, ORANGE = plots.COLORS[0], plots.COLORS[4]
GREY = "#bbbbbb"


def _film(fig, steps):
    """One picture of a figure after each of the steps that a generator takes: uint8 (steps, height, width, 3)."""
    fig.set_dpi(DPI)
    canvas = FigureCanvasAgg(fig)
    frames = []
    for _ in steps:
        canvas.draw()
        fig.set_layout_engine("none")  # the first picture's layout is that of all
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.stack(frames)


def encode(frames, seconds):
    """An animated PNG that plays once.

    Args:
        frames: uint8 (frames, height, width, 3); the last is also the still.
        seconds: duration, at most ``LONGEST``.

    Returns:
        bytes; the colours are at most 64, the same in all frames.

    Raises:
        ValueError: it would last longer than ``LONGEST``.
    """
    if seconds > LONGEST:
        raise ValueError(f"{seconds} seconds; an animation lasts at most {LONGEST}")
    strip = Image.fromarray(np.concatenate(frames)).quantize(64, method=Image.Quantize.MAXCOVERAGE)
    small = [strip.crop((0, top, strip.width, top + len(frames[0]))) for top in range(0, strip.height, len(frames[0]))]
    buffer = io.BytesIO()
    duration = round(1000 * seconds / len(small))
    small[-1].save(
        buffer, "png", save_all=True, default_image=True, append_images=small, duration=duration, loop=1, optimize=True
    )
    return buffer.getvalue()


def show(frames, seconds, alt):
    """Show an animation in a notebook, with a button to play it again where scripts run.

    Args:
        frames, seconds: as in ``encode``.
        alt: str, what the animation shows.

    Raises:
        ValueError: ``alt`` is empty, or the animation too long.
    """
    from IPython.display import HTML, display
    from IPython.display import Image as Shown

    if not alt.strip():
        raise ValueError("alt is empty; say in a sentence what the animation shows")
    png = encode(frames, seconds)
    still = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("P").save(still, "png", optimize=True)
    about = {"alt": alt, "width": frames.shape[2] * 100 // DPI}
    display(Shown(png, format="png", metadata=about))
    display(HTML(widgets.html("animation", still=still.getvalue(), **about)))


# --- A depthwise convolution --------------------------------------------------------------------------------------


def depthwise(x, kernels):
    """A depthwise convolution with stride 1 at work: the kernels move over their channels, the output fills.

    Args:
        x: float (height, width, channels).
        kernels: float (k, k, channels, 1), as in Keras; k is odd.

    Returns:
        uint8 (height * width + 1, ...): one frame for each position, and one of the end.
    """
    x, kernels = np.asarray(x, "float32"), np.asarray(kernels, "float32")
    output = np.asarray(keras.ops.depthwise_conv(x[None], kernels, padding="same"))[0]
    height, width, channels = x.shape
    k = len(kernels)
    reach = k // 2
    fig, axes = plots.figure(channels, 3, (5.6, 1.5 * channels + 0.75))
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.02, hspace=0)
    fig.suptitle("Each channel has its own kernel, and no channel sees another", x=0.01, ha="left", fontsize=11)
    windows, pixels, hidden = [], [], []
    for channel, (left, middle, right) in enumerate(axes.reshape(channels, 3)):
        for ax in (left, middle, right):
            edge = reach + 0.15
            ax.set(xlim=(-edge, width + edge), ylim=(height + edge, -edge), aspect="equal", xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.grid(False)
        for ax, numbers in ((left, x[:, :, channel]), (right, output[:, :, channel])):
            largest = np.abs(numbers).max()  # so that 0, also that of the padding, is the same grey everywhere
            ax.pcolormesh(numbers, vmin=-largest, vmax=largest, cmap="gray", edgecolors=GREY, linewidth=0.5)
        # What is not computed yet is covered.
        hidden.append(
            [patches.Rectangle((j, i), 1, 1, fc="white", ec=GREY, lw=0.5) for i, j in np.ndindex(x.shape[:2])]
        )
        for cover in hidden[-1]:
            right.add_patch(cover)
        windows.append(left.add_patch(patches.Rectangle((0, 0), k, k, fill=False, ec=BLUE, lw=3)))
        pixels.append(right.add_patch(patches.Rectangle((0, 0), 1, 1, fill=False, ec=ORANGE, lw=3)))
        corner = (width - k) / 2
        middle.add_patch(patches.Rectangle((corner, corner), k, k, fill=False, ec=BLUE, lw=3))
        for i, j in np.ndindex(k, k):
            middle.text(corner + j + 0.5, corner + i + 0.5, f"{kernels[i, j, channel, 0]:g}", ha="center", va="center")
        left.set_ylabel(f"channel {channel + 1}")
        if channel == 0:
            for ax, title in ((left, "input"), (middle, "kernel"), (right, "output")):
                ax.set_title(title, fontsize=10, loc="center")

    def steps():
        for number, (i, j) in enumerate(np.ndindex(height, width)):
            for channel in range(channels):
                windows[channel].set_xy((j - reach, i - reach))
                pixels[channel].set_xy((j, i))
                hidden[channel][number].set_visible(False)
            yield
        for mark in windows + pixels:
            mark.set_visible(False)
        yield

    return _film(fig, steps())


# --- An MBConv block ----------------------------------------------------------------------------------------------

# (layer whose output it is, what the phase is called) of the main path, and of the SE block's branch.
PHASES = (("expand_activation", "expand"), ("activation", "depthwise"), ("se_excite", "× weights"))
PHASES += (("project_bn", "project"), ("add", "+ input"))
BRANCH = (("se_squeeze", "squeeze"), ("se_reduce", "reduce"), ("se_expand", "expand"))


def shapes_of(args, size):
    """What a block's layers output: {layer's name: (height, width, channels)}, with "input".

    Args:
        args: BlockArgs of a block that has all parts.
        size: int, height and width of its input in pixels.
    """
    inputs = keras.Input((size, size, args.input_filters))
    model = keras.Model(inputs, mbconv_block(inputs, args))
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers[1:]}
    return {"input": tuple(inputs.shape[1:])} | shapes


def mbconv(args, size):
    """A tensor on its way through an MBConv block: a box as high as the feature map and as wide as there are channels.

    Args:
        args: BlockArgs of a block that has all parts: expansion, SE block, skip connection.
        size: int, height and width of its input in pixels.

    Returns:
        uint8 (frames, ...).
    """
    shapes = shapes_of(args, size)
    inch = max(channels for _, _, channels in shapes.values()) / 0.92  # channels to an inch
    pixel = 1.0 / size  # inches for a pixel
    fig, ax = plots.figure(size=(5.8, 3.9))
    ax.set(xlim=(0, 5.8), ylim=(-1.35, 2.15), aspect="equal")
    ax.set_axis_off()
    fig.suptitle(
        "Wide in the middle, narrow at the ends: only the narrow input is added", x=0.01, ha="left", fontsize=11
    )

    def box(name, centre, middle):
        height, _, channels = shapes[name]
        return np.array([centre, middle, channels / inch, max(height * pixel, 0.05)])

    place = 0.1
    main, branch = {}, {}
    for name in ("input", *(name for name, _ in PHASES)):
        width = max(shapes[name][2] / inch, 0.6)  # room for the text
        main[name] = box(name, place + width / 2, 0)
        place += width + 0.2
    start, end = main["activation"][0], main["se_excite"][0]
    for (name, _), height in zip(BRANCH, (1.05, 1.35, 1.65), strict=True):
        branch[name] = box(name, (start + end) / 2, height)

    def rectangle(place, color, **more):
        x, y, width, height = place
        shape = patches.Rectangle((x - width / 2, y - height / 2), width, height, fc=color, ec="black", lw=0.8, **more)
        return ax.add_patch(shape)

    def leave(name, place, label, color):
        """The tensor stays where it has arrived, with its shape."""
        rectangle(place, color)
        x, y, width, height = place
        rows, columns, channels = shapes[name]
        if name in branch:
            text = f"{label} {rows}×{columns}×{channels}"
            ax.text(start - 0.1, y, text, ha="right", va="center", fontsize=9)
        else:
            ax.text(x, y - height / 2 - 0.06, f"{rows}×{columns}\n×{channels}", ha="center", va="top", fontsize=9)
            ax.text(x, y + height / 2 + 0.05, label, ha="center", va="bottom", fontsize=9)

    def arrow(points, color):
        ax.plot(*np.array(points).T, color=color, lw=1.2, zorder=0)
        style = {"arrowstyle": "->", "color": color, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", points[-1], points[-2], arrowprops=style, zorder=0)

    def move(points, color, pictures=4):
        """A tensor that changes its place and its shape."""
        points = np.array(points)
        for t in np.linspace(0, len(points) - 1, pictures + 2)[1:-1]:
            first = min(int(t), len(points) - 2)
            place = points[first] + (t - first) * (points[first + 1] - points[first])
            moving = rectangle(place, color, alpha=0.5, zorder=3)
            yield
            moving.remove()

    def steps():
        green = plots.COLOR_OF["se"]
        leave("input", main["input"], "input", BLUE)
        yield
        before = "input"
        for name, label in PHASES:
            if name == "se_excite":
                source = main[before]
                arrow([(start, 0.75), (start, branch["se_squeeze"][1]), (start + 0.1, branch["se_squeeze"][1])], green)
                for part, part_label in BRANCH:
                    yield from move([source, branch[part]], green, 3)
                    leave(part, branch[part], part_label, green)
                    yield
                    source = branch[part]
                arrow([(end - 0.1, source[1]), (end, source[1]), (end, 0.75)], green)
            path = [main[before], main[name]]
            if name == "add":
                yield from move(path, BLUE, 2)
                below = main["input"] - [0, 1.0, 0, 0]
                skip = [main["input"], below, below + [main[name][0] - main["input"][0], 0, 0, 0], main[name]]
                first, last = below[0], skip[2][0]
                arrow([(first, -0.93), (first, -1.1), (last, -1.1), (last, -0.93)], "black")
                ax.text((first + last) / 2, -1.07, "skip connection", ha="center", va="bottom", fontsize=9)
                yield from move(skip, BLUE, 8)
            else:
                yield from move(path, BLUE)
            leave(name, main[name], label, BLUE)
            yield
            before = name
        yield

    return _film(fig, steps())


# --- Stochastic depth ---------------------------------------------------------------------------------------------


def draws(rates, steps):
    """Which blocks one image passes through, at each step: bool (blocks, steps), drawn by Keras's Dropout layers.

    Args:
        rates: drop rate of each block, 0 for one that is never left out.
        steps: int, training steps.
    """
    image = np.ones((steps, 1, 1, 1), "float32")  # one draw for each image: here an image is a step
    layers = [keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), seed=i) for i, rate in enumerate(rates)]
    return np.stack([np.asarray(layer(image, training=True)).ravel() > 0 for layer in layers])


def block_rates(blocks, drop_rate):
    """The drop rate of each block, such as {"1a": 0.0, "2a": 0.0, "2b": 0.025}; 0 where there is no skip connection.

    Args:
        blocks: sequence of BlockArgs, one for each stage.
        drop_rate: at the end of the network; block i of n has ``drop_rate * i / n``.
    """
    unrolled = each_block(blocks)
    rates = {}
    for i, (name, args) in enumerate(unrolled.items()):
        skip = args.strides == 1 and args.input_filters == args.output_filters
        rates[name] = drop_rate * i / len(unrolled) * skip
    return rates


def stochastic_depth(blocks, drop_rate=0.2, steps=48):
    """The blocks that one image passes through at each training step, and how often each was left out.

    Args:
        blocks: sequence of BlockArgs, one for each stage, such as ``model.B0_BLOCKS``.
        drop_rate: as in ``block_rates``.
        steps: int, training steps.

    Returns:
        uint8 (steps, ...): one frame for each step.
    """
    names, rates = zip(*block_rates(blocks, drop_rate).items(), strict=True)
    kept = draws(rates, steps)
    used = kept.sum(axis=0)

    fig, (left, right) = plots.figure(1, 2, (5.8, 4.0))
    left.get_gridspec().set_width_ratios([2.6, 1])
    title = f"Each step trains a different network, with {used.min()} to {used.max()} of the {len(names)} blocks"
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    rows = np.arange(len(names))
    left.set(xlim=(0.5, steps + 0.5), ylim=(len(names) - 0.5, -0.5), xlabel="training step", ylabel="block")
    left.set_yticks(rows, names, fontsize=9)
    left.grid(False)
    right.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 30), yticks=[], xlabel="left out so far (%)")
    right.grid(axis="y", visible=False)
    bars = right.barh(rows, 0, 0.7, color=BLUE)
    drawn = np.array(rates) > 0
    right.plot(100 * np.array(rates)[drawn], rows[drawn], "|", color="black", markersize=9, mew=2, label="drop rate")
    fig.legend(
        [patches.Patch(fc=BLUE), patches.Patch(fc=GREY), patches.Patch(fc="white", ec="black"), right.lines[0]],
        ["used", "used, no skip connection", "left out", "drop rate"],
        loc="outside lower center", ncols=4, fontsize=9, columnspacing=1, handlelength=1.2,
    )  # fmt: skip

    def pictures():
        for step in range(steps):
            colors = [BLUE if rate else GREY for rate in rates]
            for row in rows[kept[:, step]]:
                left.add_patch(patches.Rectangle((step + 0.55, row - 0.4), 0.9, 0.8, fc=colors[row]))
            for bar, count in zip(bars, (~kept[:, : step + 1]).sum(axis=1), strict=True):
                bar.set_width(100 * count / (step + 1))
            yield

    return _film(fig, pictures())
