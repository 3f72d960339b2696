"""What functions that look up layers by name ask of a model."""

import keras


def check_flat(model, what=None):
    """Raise if a model contains a model: its layers would be hidden, and whatever looks for them would find nothing.

    Args:
        model: ``keras.Model``.
        what: str, what the model is called in the message; None takes its name.

    Raises:
        ValueError: a layer is itself a model; the message names it.
    """
    nested = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    if nested:
        raise ValueError(
            f"{what or model.name} contains the model {nested[0]!r} as one layer; expected a flat model: build the "
            "classifier on backbone.output, then keras.Model(backbone.input, outputs)"
        )


def check_one_output(model):
    """Raise if a model has several outputs; a subclassed or unbuilt one does not say how many.

    Raises:
        ValueError: it has.
    """
    outputs = getattr(model, "outputs", None)
    if outputs is not None and len(outputs) != 1:
        raise ValueError(f"{model.name} has {len(outputs)} outputs; expected one")
