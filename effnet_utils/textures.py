"""A folder of images that needs no download: three textures computed by formulas, as untidy as real folders are."""

from pathlib import Path

import numpy as np

TEXTURE_CLASSES = ("bricks", "cobbles", "planks")
# Red and brown clay, grey and yellow stone, dark wood; every class takes all of them.
PALETTE = np.float32(
    [[0.62, 0.30, 0.22], [0.55, 0.42, 0.30], [0.45, 0.45, 0.44], [0.70, 0.62, 0.50], [0.33, 0.25, 0.20]]
)
TABLE = 64  # rows and columns of cells after which random values repeat


def write_texture_folder(folder, per_class=200, seed=0):
    """Write images of brick walls, cobblestones and wooden planks, one folder for each class; a few seconds.

    All classes share colours, scales, tilts, light and noise, so that form alone tells them apart. As in a folder of
    one's own, sizes differ, and some files are special: one is grayscale, one has an alpha channel, one has letters
    outside ASCII in its name, one of each class is in a nested folder, and one more is broken.

    Args:
        folder: path, made if it does not exist; files with the same names are replaced.
        per_class: int >= 3, readable images of each class.
        seed: int, of the random numbers. The images are the same on every machine, up to rounding.

    Returns:
        Path of ``folder``.

    Raises:
        ValueError: ``per_class`` is below 3.
    """
    from PIL import Image

    folder = Path(folder)
    if per_class < 3:
        raise ValueError(f"per_class is {per_class}; at least 3, for the special files")
    for label, name in enumerate(TEXTURE_CLASSES):
        class_folder = folder / name
        (class_folder / "more").mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            image = Image.fromarray(texture(label, np.random.default_rng((seed, label, number))))
            path = class_folder / f"{name}_{number:03}.jpg"
            if number == 1:
                path = class_folder / "more" / path.name
            elif number == 0 and name == "bricks":
                image = image.convert("L")
            elif number == 0 and name == "cobbles":
                path = path.with_suffix(".png")
                image.putalpha(255)
            elif number == 0:
                path = class_folder / "plank für Käthe.jpg"
            image.save(path, quality=85)
    whole = (folder / "bricks" / "bricks_002.jpg").read_bytes()
    (folder / "bricks" / "broken.jpg").write_bytes(whole[: len(whole) // 3])
    return folder


def texture(label, rng):
    """One image: uint8 (height, width, 3), height and width from 150 to 400 pixels.

    Args:
        label: int, index into TEXTURE_CLASSES.
        rng: NumPy Generator.
    """
    height, width = (int(size) for size in rng.integers(150, 401, 2))
    # The surface's own coordinates u and v, in rows of bricks: tilted, scaled, slightly bent.
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)
    unit = float(rng.uniform(0.08, 0.35)) * min(height, width)
    angle = float(rng.uniform(-0.5, 0.5) + rng.choice([0, np.pi / 2]))
    bend = float(rng.uniform(0.0, 0.12))
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    u = (cos * x + sin * y) / unit + bend * noise(height, width, unit, rng)
    v = (cos * y - sin * x) / unit + bend * noise(height, width, unit, rng)
    row, column, joint, relief = (_bricks, _cobbles, _planks)[label](u, v, rng)

    # Each cell has a brightness of its own; joints have a second colour.
    colour, joint_colour = rng.permutation(PALETTE)[:2]
    colour = colour * rng.uniform(0.88, 1.12, 3).astype(np.float32)
    own = rng.uniform(-1, 1, (TABLE, TABLE)).astype(np.float32)[row % TABLE, column % TABLE]
    fine = noise(height, width, 3, rng)[..., None]
    light = 1 + float(rng.uniform(0.02, 0.1)) * own + relief
    surface = colour * (light[..., None] + float(rng.uniform(0.02, 0.1)) * fine)
    contrast = float(rng.uniform(0.5, 1.0))
    image = surface + contrast * joint[..., None] * (joint_colour * (1 + 0.2 * fine) - surface)

    # Light that falls off to one side, soft shadows, exposure, noise of the sensor.
    down, right = (float(each) for each in rng.uniform(-0.35, 0.35, 2))
    slope = 1 + down * (y / height - 0.5) + right * (x / width - 0.5)
    shade = 1 - float(rng.uniform(0, 0.5)) / (1 + np.exp(-6 * noise(height, width, 120, rng)))
    image = float(rng.uniform(0.7, 1.4)) * image * (slope * shade)[..., None]
    image = image + float(rng.uniform(0.01, 0.05)) * rng.standard_normal((height, width, 1), np.float32)
    return (255 * image.clip(0, 1)).astype(np.uint8)


def noise(height, width, scale, rng):
    """Smooth random values of mean 0 and about unit size that change over ``scale`` pixels: float32 (height, width)."""
    from PIL import Image

    total = np.zeros((height, width), np.float32)
    for octave in range(2):
        step = max(scale / 2**octave, 1.0)
        grid = rng.standard_normal((int(height / step) + 2, int(width / step) + 2), np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return total


# Each of these returns, for every pixel, the row and the column of its cell (ints), how far it belongs to a joint
# (0..1), and how much brighter than its cell it is.


def _bricks(u, v, rng):
    return (*_bond(u, v, float(rng.uniform(1.6, 2.6)), rng), np.float32(0))


def _planks(u, v, rng):
    row, column, joint = _bond(u, v, float(rng.uniform(3.0, 9.0)), rng)
    # Growth rings: waves along the plank.
    across = v * float(rng.uniform(3, 8)) + 1.5 * np.sin(0.35 * u + row) + 0.6 * np.sin(1.1 * u + 2 * v)
    return row, column, joint, float(rng.uniform(0.02, 0.12)) * np.sin(2 * np.pi * across)


def _bond(u, v, length, rng):
    """Rows of rectangles of height 1, each row shifted against the last: (row, column, joint)."""
    row = np.floor(v)
    along = u / length + float(rng.choice([0.5, 0.33])) * row
    column = np.floor(along)
    to_end = length * np.minimum(along - column, column + 1 - along)
    to_side = np.minimum(v - row, row + 1 - v)
    width = float(rng.uniform(0.03, 0.1))
    joint = ((width - np.minimum(to_end, to_side)) / 0.04 + 0.5).clip(0, 1)
    return row.astype(np.int32), column.astype(np.int32), joint


def _cobbles(u, v, rng):
    """A stone around each of many random points: a pixel belongs to the nearest; in a joint two are equally near."""
    stretch = float(rng.uniform(1.0, 1.8))
    jitter = float(rng.uniform(0.25, 0.8))
    points = 0.5 + jitter * rng.uniform(-0.5, 0.5, (2, TABLE, TABLE)).astype(np.float32)
    u = u / stretch
    base_row = np.floor(v).astype(np.int32)
    base_column = np.floor(u).astype(np.int32)
    in_row = v - base_row.astype(np.float32)
    in_column = u - base_column.astype(np.float32)
    nearest = np.full(u.shape, 99, np.float32)  # squares of distances
    second = nearest
    row, column = base_row, base_column
    for down, right in np.ndindex(3, 3):
        this_row = base_row + down - 1
        this_column = base_column + right - 1
        point_v, point_u = points[:, this_row % TABLE, this_column % TABLE]
        distance = (in_row - (down - 1) - point_v) ** 2 + (stretch * (in_column - (right - 1) - point_u)) ** 2
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        row = np.where(closer, this_row, row)
        column = np.where(closer, this_column, column)
        nearest = np.minimum(nearest, distance)
    nearest, second = np.sqrt(nearest), np.sqrt(second)
    width = float(rng.uniform(0.06, 0.16))
    joint = ((width - (second - nearest)) / 0.08 + 0.5).clip(0, 1)
    return row, column, joint, float(rng.uniform(0.0, 0.3)) * (0.5 - nearest)
