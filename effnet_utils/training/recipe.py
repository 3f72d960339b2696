"""The recipe: every value of a training from scratch, its range and the reason for its default."""

import json
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from effnet_utils.training._validation import first_problem


def _known_activation(name):
    import keras

    if name != "auto":
        try:
            keras.activations.get(name)
        except ValueError:
            raise ValueError("expected auto or the name of an activation of Keras, such as relu") from None
    return name


Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Activation = Annotated[str, AfterValidator(_known_activation)]


class Recipe(BaseModel):
    """How to train from scratch in about ten epochs; ``parse_overrides`` changes single values.

    Stride layout and peak learning rate come from the pilot runs in ``records/``.

    Raises:
        pydantic.ValidationError: an unknown name, or a value of a wrong type or out of its range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # One cycle: the learning rate climbs to its peak in the first fifth of the steps and falls to zero in the rest.
    # Short runs need a high peak, and networks with BatchNormalization need a warm-up to survive it (Smith and
    # Topin 2018).
    warmup: Annotated[Fraction, Field(description="fraction of the steps in which the learning rate climbs")] = 0.2
    # Decoupled decay, on kernels only: pulling BatchNorm's gamma or a bias to zero does not regularise.
    weight_decay: Annotated[Fraction, Field(description="decoupled weight decay of the kernels")] = 0.05
    # Targets of 0.9 + 0.1 / classes: with noisy labels and few epochs, less overconfident (Szegedy et al. 2016).
    label_smoothing: Annotated[Fraction, Field(description="weight of the uniform distribution in the targets")] = 0.1
    translate: Annotated[int, Field(ge=0, description="pixels by which an image may be shifted")] = 2
    # Each image is seen both ways: flipped in every other epoch.
    flip: Annotated[bool, Field(description="flip images left to right in every other epoch")] = True
    # gamma = 0 at the end of each residual block: the network starts shallow and deepens as it learns
    # (Goyal et al. 2017, section 5.1).
    zero_last_gamma: Annotated[bool, Field(description="start each residual branch at zero")] = True
    # The run starts at a loss of ln(classes). The reference's initialisation is made for 1000 classes; for 10 it gives
    # logits of about +-3, all of them noise.
    zero_classifier: Annotated[bool, Field(description="initialise the classifier with zeros")] = True
    # The moving averages remember about 1 / (1 - momentum) steps. Keras's 0.99 was made for long runs: at 100 steps
    # per epoch it still carries the initial values after the first epoch.
    bn_momentum: Annotated[Fraction, Field(description="momentum of BatchNormalization's moving averages")] = 0.9
    # Stochastic depth and dropout regularise runs of hundreds of epochs; ten epochs underfit without their help.
    drop_connect_rate: Annotated[Fraction, Field(description="stochastic depth of the last block")] = 0.0
    dropout_rate: Annotated[Fraction, Field(description="dropout before the classifier")] = 0.0
    # Centred input; "rescale" feeds the first convolution positive values only.
    preprocessing: Annotated[
        Literal["auto", "rescale", "imagenet", "lite"], Field(description="how the network scales pixels")
    ] = "imagenet"
    activation: Annotated[Activation, Field(description="auto is the variant's own")] = "auto"
    bn_epsilon: Annotated[Positive, Field(description="epsilon of BatchNormalization")] = 1e-3
    # To take the network apart or to scale it, for all stages (expansion: for those that expand); None is the
    # variant's own value.
    se_ratio: Annotated[float | None, Field(ge=0, le=1, description="squeeze-and-excitation ratio; 0: none")] = None
    expand_ratio: Annotated[int | None, Field(ge=1, description="expansion ratio")] = None
    kernel_size: Annotated[int | None, Field(ge=1, description="size of the depthwise kernels in pixels")] = None
    id_skip: Annotated[bool | None, Field(description="skip connections where shapes allow them")] = None
    width: Annotated[Positive | None, Field(description="width coefficient")] = None
    depth: Annotated[Positive | None, Field(description="depth coefficient")] = None
    resolution: Annotated[int | None, Field(ge=1, description="images are resized to this size in pixels first")] = None

    def build_options(self):
        """The values that go to ``efficientnet``, as a dict."""
        names = ("bn_momentum", "bn_epsilon", "drop_connect_rate", "dropout_rate", "preprocessing", "activation")
        arguments = {name: getattr(self, name) for name in names}
        arguments["width"] = self.width
        arguments["depth"] = self.depth
        arguments["se_ratio"] = "auto" if self.se_ratio is None else self.se_ratio
        arguments["blocks"] = self._blocks()
        return arguments

    def _blocks(self):
        from effnet_utils.model import B0_BLOCKS  # Keras, which those that check a recipe do not wait for

        stages = []
        for stage in B0_BLOCKS:
            changes = {"kernel_size": self.kernel_size, "id_skip": self.id_skip}
            if stage.expand_ratio > 1:
                changes["expand_ratio"] = self.expand_ratio
            given = {name: value for name, value in changes.items() if value is not None}
            stages.append(replace(stage, **given))
        return stages


def parse_overrides(text):
    """The recipe with some of its values changed.

    Args:
        text: one JSON object, such as '{"weight_decay": 0.02}'; '{}' changes nothing.

    Returns:
        Recipe.

    Raises:
        ValueError: not a JSON object, an unknown name, or a value of another type or out of its range.
    """
    try:
        values = json.loads(text)
    except (TypeError, json.JSONDecodeError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"overrides is {text!r}; expected one JSON object, such as '{{\"translate\": 4}}'")
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise ValueError(f"overrides: {first_problem(error, Recipe)}") from None
