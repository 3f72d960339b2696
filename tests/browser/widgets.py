"""The figures that a reader can operate, in a browser: by keyboard, light and dark, narrow and wide; their numbers
against Python's."""

import ast
import base64
import math
import re
from dataclasses import replace

import keras
import nbformat
import numpy as np
import pytest

from effnet_utils import B0_BLOCKS, BlockArgs, compound_coefficients, count_macs, efficientnet, inspection, widgets
from effnet_utils.blocks import mbconv_block, swish
from tests.browser.lab import lab, open_notebook, run_cells  # noqa: F401
from tests.browser.looking import pictures
from tests.browser.site_pages import AXE, OVERFLOWING, SETTLE, from_outside
from tests.test_animations import STORED as ANIMATIONS
from tests.test_animations import png_of
from tests.test_widgets import STORED, values_of
from tools.notebooks import NOTEBOOKS, code_cells, number_of, read

PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>A figure</title>
<style>body { font: 16px sans-serif; margin: 16px; } img { max-width: 100%; }
.light { background: #ffffff; color: #222832; } .dark { background: #14181e; color: #ced6dd; }</style>
<body class="light"><main><h1>A figure</h1><div><img alt="The figure" src="SOURCE"></div><div>FIGURE</div></main>"""
IMAGE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='90' height='60'><circle r='30'/></svg>"
IMAGE_BEFORE = "img[alt='The figure']"
HOST = ".live-figure"  # the element that holds a figure
FOCUSED = """() => {
    const element = document.activeElement.shadowRoot?.activeElement;
    if (!element) return null;
    const shows = element.matches(":focus-visible") && getComputedStyle(element).outlineStyle !== "none";
    return [element.id || element.textContent, shows];
}"""
CONTROLS = """host => [...host.shadowRoot.querySelectorAll("input, button, select, [tabindex='0']")]
    .filter(each => !each.disabled).length"""


def figure_html(name):
    """As a notebook stores it."""
    if name == "animation":
        return ANIMATIONS["depthwise"][1].outputs[1].data["text/html"]
    return STORED[name][1]


def from_notebook(number, *names):
    """Functions that a notebook defines."""
    path = next(path for path in NOTEBOOKS if number_of(path) == number)
    space = {"np": np}
    for cell in code_cells(read(path)):
        for node in ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", cell.source)).body:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                exec(ast.unparse(node), space)
    return [space[name] for name in names]


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page(viewport={"width": 800, "height": 900})
    page.told = []
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("console", lambda line: page.told.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: page.told.extend(from_outside(request.url)))
    yield page
    page.close()


def opened(page, name, width=800):
    page.told.clear()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("about:blank")
    page.set_content(PAGE.replace("FIGURE", figure_html(name)).replace("SOURCE", IMAGE))
    return page


def text(page, selector):
    return page.locator(selector).inner_text()


def numbers(page, selector):
    """The numbers in a text: "9,109,994 parameters" -> [9109994.0]."""
    found = text(page, selector).replace("−", "-").replace(",", "")
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", found)]


def press(page, selector, key, times=1):
    page.locator(selector).focus()
    for _ in range(times):
        page.keyboard.press(key)


def choose(page, **sliders):
    """Set sliders and menus at once, as if moved there."""
    page.locator(HOST).evaluate(
        """(host, values) => Object.entries(values).forEach(([id, value]) => {
            const control = host.shadowRoot.getElementById(id);
            control.value = value;
            for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind));
        })""",
        sliders,
    )


# --- What holds of every figure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", widgets.names())
def test_takes_the_images_place_and_is_readable(name, page, screenshots):
    for width in (390, 1440):
        opened(page, name, width)
        assert not page.locator(IMAGE_BEFORE).is_visible()
        for scheme in ("light", "dark"):
            page.evaluate("scheme => document.body.className = scheme", scheme)
            host = page.locator(HOST)
            page.wait_for_function(
                "([host, dark]) => host.classList.contains('dark') === dark",
                arg=[host.element_handle(), scheme == "dark"],
            )
            page.screenshot(path=screenshots / f"widget_{name}_{width}_{scheme}.png", full_page=True)
            page.add_script_tag(path=AXE)
            page.evaluate(SETTLE)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
            assert not serious, [node["html"] + node["failureSummary"] for rule in serious for node in rule["nodes"]]
        assert not page.evaluate(OVERFLOWING)
        assert not page.told, page.told


@pytest.mark.parametrize("name", widgets.names())
def test_every_control_is_reached_by_tab_and_shows_the_focus(name, page):
    opened(page, name)
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None or stop[0] in stops:
            break
        assert stop[1], f"the focus is not visible on {stop[0]}"
        stops.append(stop[0])
    assert len(stops) == page.locator(HOST).evaluate(CONTROLS) > 1, stops


@pytest.mark.parametrize("name", widgets.names())
def test_without_scripts_the_image_stays_alone(name, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(PAGE.replace("FIGURE", figure_html(name)).replace("SOURCE", IMAGE))
    assert page.locator(IMAGE_BEFORE).is_visible() and page.locator("main").inner_text().strip() == "A figure"
    context.close()


def test_a_script_that_fails_leaves_the_image(page):
    broken = figure_html("swish").replace("const relu =", "undefined.nothing; const relu =")
    page.set_content(PAGE.replace("FIGURE", broken).replace("SOURCE", IMAGE))
    assert page.locator(IMAGE_BEFORE).is_visible() and not page.locator("#beta").is_visible()
    page.told.clear()


# --- Animations: they play once, where they are seen, and not for readers who want no motion -------------------------


def played(page, motion, seconds):
    """The pictures that a reader sees from the first on, three a second: PNGs."""
    page.emulate_media(reduced_motion=motion)
    source = "data:image/png;base64," + base64.b64encode(png_of("depthwise")).decode()
    page.set_content(PAGE.replace("FIGURE", figure_html("animation")).replace("SOURCE", source))
    return seen(page, seconds)


def seen(page, seconds):
    pictures = []
    for _ in range(3 * seconds):
        pictures.append(page.locator(f"{HOST} img").screenshot())
        page.wait_for_timeout(300)
    return pictures


def test_an_animation_plays_once_and_again_on_demand(page):
    first = played(page, "no-preference", 7)
    assert len(set(first)) > 5, "it moves"
    assert len(set(first[-3:])) == 1, "it has ended"
    still = first[-1]
    press(page, "#play", "Enter")
    assert len(set(seen(page, 2))) > 2, "it moves again"
    press(page, "#end", "Enter")
    assert set(seen(page, 1)) == {still}


def test_an_animation_does_not_start_where_no_motion_is_wanted(page):
    first = played(page, "reduce", 2)
    assert len(set(first)) == 1
    press(page, "#play", "Enter")
    assert len(set(seen(page, 2))) > 2, "but it does when asked to"
    page.emulate_media(reduced_motion="no-preference")


# --- Their numbers ------------------------------------------------------------------------------------------------


def test_swish_and_its_slope(page):
    opened(page, "swish")
    press(page, "#x", "ArrowRight", 35)
    assert numbers(page, "#x-value") == [1.5]
    for beta, key, times in ((1, "ArrowRight", 0), (0, "Home", 1), (2.5, "ArrowRight", 25), (10, "End", 1)):
        press(page, "#beta", key, times)
        x, value, slope, relu = numbers(page, "#at-x")
        assert numbers(page, "#beta-value") == [beta] and (x, relu) == (1.5, 1)

        def ours(x, beta=beta):
            return x / (1 + np.exp(-beta * x))

        assert value == pytest.approx(ours(1.5), abs=6e-4)
        assert slope == pytest.approx((ours(1.5 + 1e-5) - ours(1.5 - 1e-5)) / 2e-5, abs=6e-4)
    choose(page, beta=1, x=-2)
    x = np.array([-2.0])
    _, value, slope, _ = numbers(page, "#at-x")
    assert value == pytest.approx(float(swish(x)[0]), abs=6e-4)
    assert slope == pytest.approx(float(inspection.gradient(swish, x)[0]), abs=6e-4)
    grid = np.linspace(-6, 6, 1201)
    lowest = keras.ops.convert_to_numpy(swish(grid))
    assert numbers(page, "#lowest") == pytest.approx([lowest.min(), grid[lowest.argmin()]], abs=6e-3)


def test_se_block_on_a_drawing(page):
    opened(page, "se")
    (blur, six_channels) = from_notebook("02", "blur", "six_channels")
    values = values_of(figure_html("se"))

    def compare():
        rgba = page.locator("#pad").evaluate(
            "pad => [...pad.getContext('2d').getImageData(0, 0, 32, 32).data]",
        )
        drawing = np.array(rgba, np.uint8).reshape(1, 32, 32, 4)[..., :3]
        means = six_channels(drawing).mean(axis=(1, 2))
        reduced = np.maximum(means @ np.array(values["reduce"]), 0)
        weights = 1 / (1 + np.exp(-(reduced @ np.array(values["expand"]))))
        shown = [numbers(page, f"#mean{i}")[0] for i in range(6)]
        assert shown == pytest.approx(means[0], abs=6e-3)
        faders = [float(page.locator(f"#fader{i}").input_value()) for i in range(6)]
        assert faders == pytest.approx(weights[0], abs=1e-4)
        assert numbers(page, "#squeezed") == pytest.approx(reduced[0], abs=6e-3)
        return drawing, weights[0]

    _, weights = compare()
    assert weights[1] > 0.9 and weights[0] < 0.1, "image A has horizontal stripes"
    press(page, "#clear", "Enter")
    press(page, "#pad", "Shift+ArrowDown", 20)
    press(page, "#pad", "Shift+ArrowUp", 30)
    drawing, weights = compare()
    assert (drawing == 0).all(axis=-1).sum() == 4 * 32, "a vertical line of four pixels"
    assert weights[0] > 0.55 > 0.45 > weights[1], "it has vertical edges"

    press(page, "#fader2", "Home")
    assert not page.locator("#automatic").is_checked() and numbers(page, "#weight2") == [0]
    scaled = page.locator("#result").evaluate("c => c.getContext('2d').getImageData(0, 0, 32, 32).data[2]")
    assert scaled == 0, "no blue is left"
    press(page, "#automatic", "Space")
    compare()


def test_depthwise_and_other_convolutions(page):
    opened(page, "depthwise")
    values = values_of(figure_html("depthwise"))
    inputs = np.array([values["input"]], "float32")
    for kind in ("depthwise", "pointwise", "full"):
        kernel = np.array(values["kernels"][kind], "float32")
        operation = keras.ops.depthwise_conv if kind == "depthwise" else keras.ops.conv
        expected = keras.ops.convert_to_numpy(operation(inputs, kernel, padding="same"))[0]
        for channel in range(4):
            choose(page, kind=kind, channel=channel + 1, pixel=25)
            grid = np.array(numbers(page, "#output"))[1:].reshape(5, 5)  # the first is the channel's number
            assert np.array_equal(grid, expected[..., channel])
    choose(page, kind="full", channel=1, pixel=13)
    assert text(page, "#sum").startswith("Uses 36 of the 100 inputs")
    choose(page, kind="pointwise")
    assert text(page, "#sum").startswith("Uses 4 of the 100 inputs")
    press(page, "#kind", "d")  # a menu jumps to what begins with the letter
    assert text(page, "#sum").startswith("Uses 9 of the 100 inputs")
    press(page, "#step", "Enter", 2)
    press(page, "#back", "Space")
    assert text(page, "#where") == "14 of 25"
    press(page, "#pixel", "Home")
    assert text(page, "#sum").startswith("Uses 4 of the 100 inputs") and page.locator("#back").is_disabled()


def test_spiral(page):
    opened(page, "spiral")
    (there_and_back,) = from_notebook("03", "there_and_back")
    along = np.linspace(0.05, 1, 600)
    angle = 4 * np.pi * along
    spiral = np.stack([along * np.cos(angle), along * np.sin(angle)], axis=1)
    n = 2
    for times in (0, 1, 2, 10, 15):
        press(page, "#n", "ArrowRight", times)
        n += times
        distance = np.sqrt(((there_and_back(spiral, n) - spiral) ** 2).sum(axis=1).mean())
        assert text(page, "#title") == f"Back from {n} channels"
        assert numbers(page, "#error") == pytest.approx([distance], abs=2e-3)
    press(page, "#other", "Enter")
    assert numbers(page, "#error")[0] < 0.2, "thirty other random channels restore it as well"


def built(args, size):
    inputs = keras.Input((size, size, args.input_filters))
    return keras.Model(inputs, mbconv_block(inputs, args))


def parameters(model):
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_cost_of_every_block_of_b0(page):
    opened(page, "block_cost")
    size = 112
    for number, stage in enumerate(B0_BLOCKS, start=1):
        for repeat in range(stage.num_repeat):
            args = stage if repeat == 0 else replace(stage, input_filters=stage.output_filters, strides=1)
            choose(page, preset=f"{number}{'abcd'[repeat]}")
            model = built(args, size)
            assert numbers(page, "#parameters") == [parameters(model)] and numbers(page, "#macs") == [count_macs(model)]
            has_skip = any(isinstance(layer, keras.layers.Add) for layer in model.layers)
            assert text(page, "#skip").startswith("Skip connection: " + ("yes" if has_skip else "no"))
            size = model.output.shape[1]


def test_cost_of_a_block_by_keyboard(page):
    opened(page, "block_cost")
    for control, key, times in (("c", "ArrowRight", 3), ("f", "End", 1), ("t", "Home", 1), ("k", "ArrowRight", 1)):
        press(page, f"#{control}", key, times)
    press(page, "#s", "End")
    press(page, "#size", "ArrowLeft", 5)
    model = built(BlockArgs(7, 1, 64, 320, 1, strides=2), 23)
    assert numbers(page, "#parameters") == [parameters(model)] and numbers(page, "#macs") == [count_macs(model)]
    press(page, "#preset", "1")
    assert numbers(page, "#macs") == [count_macs(built(B0_BLOCKS[0], 112))]


def activations(model):
    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers if isinstance(layer, convolutions))


@pytest.mark.parametrize(
    ("phi", "alpha", "beta", "gamma"), [(0, 1.2, 1.1, 1.15), (1, 1.2, 1.1, 1.15), (2.5, 1.4, 1.05, 1), (2, 1, 1.3, 1.2)]
)
def test_scaling(page, phi, alpha, beta, gamma):
    opened(page, "scaling")
    choose(page, phi=phi, alpha=alpha, beta=beta, gamma=gamma)
    depth, width, resolution = compound_coefficients(phi, alpha, beta, gamma)
    size = round(224 * resolution)
    model = efficientnet(depth=depth, width=width, input_shape=(size, size, 3))
    rows = [numbers(page, f"#costs tr:nth-child({number})") for number in (1, 3, 4, 5)]
    assert [row[1] for row in rows] == [size, count_macs(model), parameters(model), activations(model)]
    assert rows[1][0] == 385_814_752 and rows[2][0] == 5_288_548, "B0"
    *_, formula, _, counted = numbers(page, "#formula")
    assert formula == pytest.approx(depth * width**2 * resolution**2, abs=6e-3)
    assert counted == pytest.approx(count_macs(model) / 385_814_752, abs=6e-3)


def test_scaling_by_keyboard_and_by_budget(page):
    opened(page, "scaling")
    assert "B2 with 0.99 G MACs, 9,109,994 parameters" in text(page, "#nearest"), "phi = 1 is B2"
    press(page, "#phi", "Home")
    assert "B0 with 0.39 G MACs, 5,288,548 parameters" in text(page, "#nearest")
    page.locator("#budget").fill("1000")
    press(page, "#spend", "Enter")
    spent = numbers(page, "#costs tr:nth-child(3)")[1]
    assert 900e6 < spent <= 1e9
    press(page, "#phi", "ArrowRight")
    assert numbers(page, "#costs tr:nth-child(3)")[1] > 1e9, "the next larger phi is above the budget"
    press(page, "#alpha", "Home")
    press(page, "#paper", "Enter")
    assert page.locator("#alpha").input_value() == "1.2"


def test_receptive_field(page):
    opened(page, "receptive_field")
    layers = values_of(figure_html("receptive_field"))["layers"]
    for index, layer in enumerate(layers):
        press(page, "#layer", "Home" if index == 0 else "ArrowDown")
        press(page, "#column", "Home")
        press(page, "#row", "End")
        last = layer["first"] + layer["step"] * (layer["count"] - 1)
        expected = [max(layer["first"], 0), max(last, 0)]
        ends = [min(layer["first"] + layer["side"], 224), min(last + layer["side"], 224)]
        shown = page.locator("svg rect").first.evaluate(
            "r => ['x', 'y', 'width', 'height'].map(a => +r.getAttribute(a))"
        )
        assert shown == [*expected, *(end - start for start, end in zip(expected, ends, strict=True))]
        assert f"{layer['count']}×{layer['count']} positions, {layer['step']} pixels apart" in text(page, "#says")
        assert f"depends on {layer['side']}×{layer['side']} pixels" in text(page, "#says")
    assert numbers(page, "#says")[-1] == 100, "the last block's field covers the image"


# --- In JupyterLab ------------------------------------------------------------------------------------------------

SHOW = 'from effnet_utils import plots, widgets\nwidgets.show("swish", plots.figure()[0], "A frame.", beta=1, x=-2)'


def open_cell(browser, lab, cell):  # noqa: F811
    """A page with JupyterLab in which a notebook of one cell is open."""
    address, folder = lab
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / "figure.ipynb")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_notebook(page, address, "figure.ipynb")
    return page


def close(page):
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


def test_jupyterlab_shows_the_image_until_the_cell_runs(lab, browser):  # noqa: F811
    cell = nbformat.v4.new_code_cell(SHOW, execution_count=1)
    outputs = next(cell.outputs for path in NOTEBOOKS for cell in code_cells(read(path)) if '"swish"' in cell.source)
    cell.outputs = [output for output in outputs if "data" in output]
    page = open_cell(browser, lab, cell)
    image = page.locator(".jp-OutputArea-output img")
    assert image.is_visible() and page.locator("#beta").count() == 0
    assert pictures(page, ".jp-OutputArea-output img")[0]["width"]

    run_cells(page, 60)
    page.locator("#beta").wait_for()
    assert not image.is_visible()
    press(page, "#beta", "ArrowDown", 2)
    assert numbers(page, "#beta-value") == [0.8], "the arrow keys move the slider, not JupyterLab's cursor"
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_function("host => document.querySelector(host).classList.contains('dark')", arg=HOST)
    close(page)


ANIMATE = 'import numpy as np\nfrom effnet_utils import animations\nframes = np.zeros((4, 60, 80, 3), "uint8")\n'
ANIMATE += 'frames[0, :30] = 255\nanimations.show(frames, 2, "A black frame.")'


def test_jupyterlab_plays_an_animation(lab, browser):  # noqa: F811
    outputs = ANIMATIONS["depthwise"][1].outputs
    page = open_cell(browser, lab, nbformat.v4.new_code_cell(ANIMATE, execution_count=1, outputs=outputs))
    assert page.locator(".jp-OutputArea-output img").is_visible() and page.locator("#play").count() == 0
    run_cells(page, 60)
    playing = "host => document.querySelector(host)?.shadowRoot.getElementById('picture').src.includes('play=1')"
    page.wait_for_function(playing, arg=HOST)
    press(page, "#end", "Enter")
    still = page.locator("#picture").get_attribute("src")
    press(page, "#play", "Enter")
    assert "play=2" in page.locator("#picture").get_attribute("src") and still.startswith("data:image/png")
    assert page.locator("#picture").evaluate("image => image.decode().then(() => image.naturalWidth)") == 80
    close(page)
