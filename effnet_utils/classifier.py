"""A trained classifier as files: model.keras, which plain Keras reads, and classes.json with the names beside it.

Notebooks 07 and 08 write them, and 09 and 11 read them.
"""

import json
from pathlib import Path

import keras

from effnet_utils._flat import check_flat
from effnet_utils.files import atomic_write, project_path

CLASSES = "classes.json"
MODEL = "model.keras"


def save_classifier(model, class_names, folder):
    """Write ``model.keras`` and ``classes.json`` (a list of names, in the order of the outputs) into a folder.

    Args:
        model: flat functional ``keras.Model`` from images (batch, height, width, 3), pixels 0..255, to logits or
            probabilities (batch, classes). Flat: none of its layers is itself a model, so that each layer is found by
            its name, BatchNorm can be folded, and Grad-CAM has feature maps to look at.
        class_names: strings, one for each output.
        folder: made if it does not exist; files that are there are replaced.

    Returns:
        Path of ``model.keras``.

    Raises:
        ValueError: the model has a model inside, or not one output for each class.
    """
    _check(model, class_names, "the model to save")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / MODEL)
    with atomic_write(folder / CLASSES) as file:
        file.write(json.dumps(list(class_names), ensure_ascii=False, indent=1).encode())
    return folder / MODEL


def load_classifier(path):
    """Read what ``save_classifier`` wrote.

    Args:
        path: ``model.keras``, with ``classes.json`` in the same folder; or the folder.

    Returns:
        (``keras.Model``, list of class names). The images' size is ``model.input_shape[1:3]``.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they do not fit together, or the model is not flat.
    """
    path = project_path(path)
    if path.is_dir():
        path = path / MODEL
    names = path.with_name(CLASSES)
    for needed in (path, names):
        if not needed.is_file():
            raise FileNotFoundError(
                f"{needed} does not exist; expected {MODEL} and {CLASSES} in one folder, as notebooks 07 and 08 write "
                f"them. For a model of your own: save_classifier(model, class_names, folder)"
            )
    model = keras.saving.load_model(path)
    class_names = json.loads(names.read_text(encoding="utf-8"))
    _check(model, class_names, str(path))
    return model, class_names


def _check(model, class_names, what):
    check_flat(model, what)
    outputs = model.output_shape
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] != len(class_names):
        raise ValueError(
            f"{what} has outputs of shape {outputs}; expected (None, {len(class_names)}), one for each class"
        )
