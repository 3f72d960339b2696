"""Name what photographs show, with a network that notebook 11 exported; needs onnxruntime, numpy and pillow only.

    python predict.py model.onnx photo.jpg folder/

Reads the names of the classes from classes.json beside the model, and prints the three most probable ones for each
image. The exit code is 1 when a file could not be read (the others are still classified), 2 without a usable model.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path):
    """(session, (height, width), names of the classes) of an ONNX file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    shape, classes = session.get_inputs()[0].shape, session.get_outputs()[0].shape[-1]
    if len(session.get_inputs()) != 1 or len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:3]):
        raise ValueError(f"its input is {shape}; expected one input (images, height, width, 3) of a fixed size")
    names = json.loads(path.with_name("classes.json").read_text(encoding="utf-8"))
    if classes != len(names):
        raise ValueError(f"it has {classes} outputs, but classes.json has {len(names)} names")
    return session, (shape[1], shape[2]), names


def read(path, size):
    """float32 (1, height, width, 3), pixels 0..255, prepared as effnet_utils.datasets.load_image_dir does."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)  # upright
        if image.mode.startswith("I"):  # 16 bits of grey
            image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = ImageOps.fit(image.convert("RGB"), size[::-1], Image.Resampling.BICUBIC)  # the middle, resized
        return np.asarray(image, np.float32)[None]


def to_probabilities(outputs):
    """The softmax of logits; probabilities stay as they are."""
    if outputs.min() >= 0 and abs(outputs.sum() - 1) < 1e-3:
        return outputs
    powers = np.exp(outputs - outputs.max())
    return powers / powers.sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.onnx, with classes.json beside it")
    parser.add_argument("images", type=Path, nargs="+", help="images, or folders of images")
    given = parser.parse_args()
    try:
        session, size, names = load(given.model)
    except Exception as error:  # onnxruntime raises many kinds
        parser.error(f"{given.model} cannot be used: {error}")
    paths = []
    for path in given.images:
        inside = path.rglob("*") if path.is_dir() else ()
        paths += sorted(each for each in inside if each.is_file() and not each.name.startswith(".")) or [path]
    exit_code = 0
    for path in paths:
        try:
            pixels = read(path, size)
        except Exception as error:  # so does Pillow, for damaged files
            print(f"{path} cannot be read as an image: {error}", file=sys.stderr)
            exit_code = 1
            continue
        found = to_probabilities(session.run(None, {session.get_inputs()[0].name: pixels})[0][0])
        print(f"{path}:", ", ".join(f"{names[k]} {found[k]:.1%}" for k in found.argsort()[::-1][:3]))
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
