"""The notebooks' parameters: type, range, default and help of each, in one place.

The command line, sweeps and the notebooks themselves read them here. The notebook's cell tagged "parameters" repeats
names, defaults and help, because papermill needs them there; a test compares the two. In 07 the cell has the ten that
matter most, and the others are understood as well.
"""

import ast
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from effnet_utils.scaling import LAYOUTS, VARIANTS
from effnet_utils.training._validation import allowed_values, first_problem
from effnet_utils.training.recipe import parse_overrides

TRAIN_IMAGES = {"cifar10": 50_000, "toy": 5_000}
CIFAR10_SIZE = 32
# Spellings of before, still understood in commands, grids, notebooks and records.
OLD_NAMES = {"train_limit": "max_train_samples", "evaluate_on": "eval_split"}


def _kind(type_, help_, **limits):
    return Annotated[type_, Field(description=help_, **limits)]


# What a name means in every notebook.
Dataset = _kind(Literal[tuple(TRAIN_IMAGES)], "cifar10 or toy")
DataDir = _kind(str, "folder that holds cifar-10-batches-py or cifar10.npz, or that is downloaded to", min_length=1)
Variant = _kind(Literal[tuple(VARIANTS)], "b0..b7 or lite0..lite4")
Layout = _kind(Literal[tuple(LAYOUTS)], f"stride layout: {', '.join(LAYOUTS)}")
Epochs = _kind(int, "passes over the training images", ge=1)
BatchSize = _kind(int, "images in one step", ge=1)
LearningRate = _kind(float, "peak of the one-cycle schedule", ge=1e-6, allow_inf_nan=False)
MaxTrainSamples = _kind(int, "use only so many training images; 0 is all", ge=0)
MaxTestSamples = _kind(int, "use only so many test images; 0 is all", ge=0)
EvalSplit = _kind(Literal["test", "validation"], "test, or validation: the last tenth of the training images, held out")
Seed = _kind(int, "of weights, order and augmentation", ge=0, lt=2**32)
Precision = _kind(Literal["float32", "mixed_float16", "mixed_bfloat16"], "float32, mixed_float16 or mixed_bfloat16")
Devices = _kind(int, "GPUs that share each batch; batch_size has to be a multiple", ge=1)
Overrides = _kind(str, 'JSON object of recipe values, such as {"translate": 4}')
OutputDir = _kind(str, "folder for the results; empty makes a new one under runs/")
Resume = _kind(bool, "continue the run in output_dir that did not end")
ClassifierPath = _kind(str, "model.keras of 07, 08 or your own; empty trains one on the toy dataset")
ImageDir = _kind(str, "folder of your own images, one folder for each class, in place of the dataset")
OwnImageDir = _kind(str, "folder of your own images, one folder for each class; empty makes three textures")
PredictDir = _kind(str, "folder of new images to predict at the end; empty takes three test images and a cat")
Resolution = _kind(int, "height and width in pixels that images are resized to", ge=32, le=640, multiple_of=32)
TuneEpochs = _kind(int, "passes over the training images, in each of the two stages of fine-tuning", ge=1)
Repeats = _kind(int, "how often each measurement is repeated", ge=1)
Rows = _kind(str, "rows of section 1 to run again in section 2, with spaces between")
Workers = _kind(int, "runs at a time; each has its own part of the cores", ge=1)
KINDS = {
    "dataset": Dataset, "data_dir": DataDir, "variant": Variant, "layout": Layout, "epochs": Epochs,
    "batch_size": BatchSize, "learning_rate": LearningRate, "max_train_samples": MaxTrainSamples,
    "eval_split": EvalSplit, "seed": Seed, "precision": Precision, "devices": Devices, "overrides": Overrides,
    "output_dir": OutputDir, "resume": Resume,
}  # fmt: skip


class Parameters(BaseModel):
    """Parameters of one notebook. ``read`` checks them before anything is done with them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def read(cls, values):
        """Checked parameters; what is not given has its default.

        Args:
            values: dict name -> value; old spellings of names are understood.

        Raises:
            ValueError: one line with the parameter, what was given and what is allowed.
        """
        try:
            return cls(**{cls.present_name(name): value for name, value in values.items()})
        except ValidationError as error:
            raise ValueError(first_problem(error, cls)) from None

    @classmethod
    def present_name(cls, name):
        """A parameter's name as it is spelled today."""
        return name if name in cls.model_fields else OLD_NAMES.get(name, name)

    @classmethod
    def from_notebook(cls):
        """The parameters of the notebook that is running: its own cell's, with what papermill injected.

        What neither sets has its default, so that a cell need not declare all of them.

        Raises:
            ValueError: as ``read``; also for an injected name that is no parameter, which papermill lets through.
        """
        import __main__

        namespace = vars(__main__)
        injected = _injected_names(namespace.get("In", ()))
        names = [name for name in cls.model_fields if name in namespace]
        # The injected ones last: an old spelling counts more than the cell's default of the present one.
        return cls.read({name: namespace[name] for name in [*names, *injected]})

    def table(self):
        """All parameters as text, one a line: name, value, help and, for numbers, the range.

        Of an absolute path the last part is shown, so that notebooks can be published.
        """
        width = max(map(len, type(self).model_fields))
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, str) and Path(value).is_absolute():
                value = f".../{Path(value).name}"
            line = f"{name:<{width}}  {value!s:<10}  {field.description}"
            if type(value) in (int, float):
                line += f" [{allowed_values(type(self), name)}]"
            lines.append(line)
        return "\n".join(lines)

    @property
    def recipe(self):
        """The recipe that ``overrides`` asks for."""
        return parse_overrides(self.overrides)

    @model_validator(mode="after")
    def _fit_together(self):
        given = self.__dict__
        if "overrides" in given:
            size = self.recipe.resolution or CIFAR10_SIZE
            if self.recipe.translate >= size:
                raise ValueError(
                    f"overrides: translate is {self.recipe.translate}; allowed: below {size}, the images' size"
                )
        if "devices" in given and self.batch_size % self.devices:
            raise ValueError(f"batch_size is {self.batch_size}; allowed: a multiple of devices, {self.devices}")
        if {"dataset", "batch_size", "max_train_samples", "eval_split"} <= set(given):
            images = TRAIN_IMAGES[self.dataset]
            available = images_to_train_on(images, self.max_train_samples, self.eval_split)
            if self.batch_size > available:
                raise ValueError(f"batch_size is {self.batch_size}; allowed: at most {available}, the training images")
        return self


class TrainParameters(Parameters):
    """Of notebook 07."""

    dataset: Dataset = "cifar10"
    data_dir: DataDir = "data"
    variant: Variant = "b0"
    layout: Layout = "cifar"
    epochs: Epochs = 10
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 0.006
    max_train_samples: MaxTrainSamples = 0
    eval_split: EvalSplit = "test"
    seed: Seed = 0
    precision: Precision = "float32"
    devices: Devices = 1
    overrides: Overrides = "{}"
    output_dir: OutputDir = ""
    resume: Resume = False


class TransferParameters(Parameters):
    """Of notebook 08."""

    image_dir: OwnImageDir = ""
    predict_dir: PredictDir = ""
    variant: Variant = "lite0"
    resolution: Resolution = 160
    batch_size: BatchSize = 16
    epochs: TuneEpochs = 6
    learning_rate: LearningRate = 0.0002
    seed: Seed = 0
    output_dir: OutputDir = ""


class InspectionParameters(Parameters):
    """Of notebook 09."""

    dataset: Dataset = "toy"
    data_dir: DataDir = "data"
    model_path: ClassifierPath = ""
    image_dir: ImageDir = ""
    max_train_samples: MaxTrainSamples = 0
    test_limit: MaxTestSamples = 0
    seed: Seed = 0
    output_dir: OutputDir = ""


class AblationParameters(Parameters):
    """Of notebook 10."""

    rows: Rows = "no-skips"
    dataset: Dataset = "toy"
    data_dir: DataDir = "data"
    max_train_samples: MaxTrainSamples = 2000
    epochs: Epochs = 3
    repeats: Repeats = 1
    output_dir: OutputDir = ""


class DeployParameters(Parameters):
    """Of notebook 11."""

    dataset: Dataset = "toy"
    data_dir: DataDir = "data"
    model_path: ClassifierPath = ""
    image_dir: ImageDir = ""
    max_train_samples: MaxTrainSamples = 0
    test_limit: MaxTestSamples = 0
    repeats: Repeats = 50
    seed: Seed = 0
    output_dir: OutputDir = ""

    @model_validator(mode="after")
    def _has_a_model_for_its_images(self):
        if not self.model_path and (self.image_dir or self.dataset != "toy"):
            given = f"image_dir is {self.image_dir!r}" if self.image_dir else f"dataset is {self.dataset!r}"
            raise ValueError(f"{given}, which needs model_path: a model.keras of 07, 08 or your own")
        return self


class ScaleParameters(Parameters):
    """Of notebook 12."""

    workers: Workers = 2
    max_train_samples: MaxTrainSamples = 1000
    epochs: Epochs = 2
    output_dir: OutputDir = ""


NOTEBOOKS = {
    "07_train_cifar10": TrainParameters,
    "08_transfer_learning": TransferParameters,
    "09_look_inside": InspectionParameters,
    "10_ablations": AblationParameters,
    "11_deploy": DeployParameters,
    "12_scale_out": ScaleParameters,
}


def parameters_of(stem, cell):
    """The parameters of a notebook: of this project's, those above; of another, those that its cell declares.

    Args:
        stem: str, the notebook's file name without ".ipynb".
        cell: dict name -> (type: type, default, help: str), as the notebook declares them. A name that this project's
            notebooks have too, such as ``seed``, has the same range here.

    Returns:
        subclass of Parameters.
    """
    if stem in NOTEBOOKS and set(cell) <= set(NOTEBOOKS[stem].model_fields):
        return NOTEBOOKS[stem]
    fields = {}
    for name, (type_, default, help_) in cell.items():
        fields[name] = (Annotated[KINDS.get(name, type_), Field(description=help_)], default)
    return create_model("NotebookParameters", __base__=Parameters, **fields)


def images_to_train_on(n, max_train_samples, eval_split):
    """Training images left of ``n`` after the held-out last tenth (for "validation") and the limit (0 = all)."""
    left = n - n // 10 if eval_split == "validation" else n
    return min(max_train_samples, left) if max_train_samples else left


def parse_value(name, text, type_):
    """The value that a text of the command line means for a parameter of the given type. Raises ValueError."""
    try:
        if type_ is bool:
            return {"true": True, "false": False}[text.lower()]
        return type_(text)
    except (KeyError, ValueError):
        allowed = {bool: "true or false", int: "a whole number", float: "a number"}[type_]
        raise ValueError(f"{name} is {text!r}; allowed: {allowed}") from None


def _injected_names(cells):
    """The names that papermill's cell sets, from the texts of the cells executed so far."""
    injected = [text for text in cells if text.startswith("# Parameters\n")]
    if not injected:
        return []
    return [node.targets[0].id for node in ast.parse(injected[-1]).body if isinstance(node, ast.Assign)]
