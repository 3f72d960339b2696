"""Parameters are checked before anything is done with them; a notebook's cell says what the model says."""

import sys

import papermill
import pytest

from effnet_utils.experiments.parameters import (
    NOTEBOOKS,
    DeployParameters,
    TrainParameters,
    images_to_train_on,
    parameters_of,
)
from effnet_utils.experiments.run import declared, find_notebook, notebook_parameters

each = pytest.mark.parametrize("stem", NOTEBOOKS)


@each
def test_a_notebooks_cell_says_what_its_model_says(stem):
    found = papermill.inspect_notebook(str(find_notebook(stem.split("_")[0])))
    fields = NOTEBOOKS[stem].model_fields
    shown = [name for name in fields if name in found]
    assert list(found) == shown
    assert len(shown) == (10 if stem.startswith("07") else len(fields))
    for name in shown:
        assert found[name]["default"] == repr(fields[name].default).replace("'", '"'), name
        assert found[name]["help"] == fields[name].description, name


@each
def test_defaults_are_allowed(stem):
    assert NOTEBOOKS[stem].read({}) == NOTEBOOKS[stem]()
    path = find_notebook(stem.split("_")[0])
    model, cell = notebook_parameters(path)
    assert model is NOTEBOOKS[stem] is parameters_of(stem, declared(path))
    assert set(cell) == set(model.model_fields)
    for name, (type_, default, help_) in cell.items():
        field = model.model_fields[name]
        assert (type_, default, help_) == (type(field.default), field.default, field.description)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 2}, "there is no 'epoch'; allowed: dataset"),
        ({"epochs": "5"}, "epochs is '5'; allowed: a whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": 0}, "epochs is 0; allowed: a whole number of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; allowed: a number of at least"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"layout": "fast"}, "layout is 'fast'; allowed: .*'cifar-fast'"),
        ({"variant": "b8"}, "variant is 'b8'; allowed: .*'b7'"),
        ({"dataset": "mnist"}, "dataset is 'mnist'; allowed: 'cifar10' or 'toy'"),
        ({"data_dir": ""}, "data_dir is ''; allowed: a text of at least 1 letter"),
        ({"eval_split": "train"}, "eval_split is 'train'; allowed: 'test' or 'validation'"),
        ({"precision": "float16"}, "precision is 'float16'; allowed: .*'mixed_float16'"),
        ({"seed": -1}, "seed is -1; allowed: a whole number of at least 0"),
        ({"seed": 2**32}, "seed is 4294967296; allowed: .* below 4294967296"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": 3}, "batch_size is 64; allowed: a multiple of devices, 3"),
        ({"dataset": "toy", "batch_size": 6000}, "batch_size is 6000; allowed: at most 5000"),
        ({"dataset": "toy", "eval_split": "validation", "batch_size": 4501}, "batch_size is 4501; .* at most 4500"),
        ({"max_train_samples": 100, "batch_size": 101}, "batch_size is 101; allowed: at most 100"),
        ({"overrides": "{"}, "overrides is '{'; expected one JSON object"),
        ({"overrides": '{"droput": 1}'}, "overrides: there is no 'droput'"),
        ({"overrides": '{"translate": 32}'}, "translate is 32; allowed: below 32, the images' size"),
        ({"overrides": '{"translate": 20, "resolution": 16}'}, "translate is 20; allowed: below 16"),
        ({"resume": 1}, "resume is 1; allowed: true or false"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        TrainParameters.read(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"dataset": "cifar10"}, {"image_dir": "mine"}])
def test_images_of_ones_own_need_a_model_to_deploy(values):
    with pytest.raises(ValueError, match=" is '(cifar10|mine)', which needs model_path"):
        DeployParameters.read(values)
    assert DeployParameters.read(values | {"model_path": "model.keras"})


def test_old_spellings_are_understood():
    found = TrainParameters.read({"train_limit": 128, "evaluate_on": "validation"})
    assert (found.max_train_samples, found.eval_split) == (128, "validation")


def test_another_notebooks_parameters_have_the_types_of_its_cell():
    model = parameters_of("mine", {"steps": (int, 3, "how many"), "seed": (int, 0, "a seed")})
    assert model.read({"steps": 5}).steps == 5
    for values, message in (
        ({"steps": "5"}, "steps is '5'; allowed: a whole number"),
        ({"seed": -1}, "seed is -1; allowed: a whole number of at least 0"),
        ({"step": 5}, "there is no 'step'; allowed: steps, seed"),
    ):
        with pytest.raises(ValueError, match=message):
            model.read(values)


def test_a_notebook_sees_what_papermill_injected(monkeypatch):
    main = sys.modules["__main__"]
    cells = ["", "# Parameters\nepochs = 3"]
    for name, value in {"epochs": 3, "train_limit": 100, "max_train_samples": 0, "In": cells}.items():
        monkeypatch.setattr(main, name, value, raising=False)
    assert TrainParameters.from_notebook().max_train_samples == 0
    monkeypatch.setattr(main, "In", ["", "# Parameters\nepochs = 3\ntrain_limit = 100\n"])
    found = TrainParameters.from_notebook()
    assert (found.epochs, found.max_train_samples) == (3, 100)
    monkeypatch.setattr(main, "In", ["", "# Parameters\nepoch = 3\n"])
    monkeypatch.setattr(main, "epoch", 3, raising=False)
    with pytest.raises(ValueError, match="there is no 'epoch'"):
        TrainParameters.from_notebook()


def test_a_notebook_takes_what_its_cell_does_not_declare(monkeypatch):
    """07's cell has ten of fifteen: the others come from papermill, from a line of the reader's, or have a default."""
    main = sys.modules["__main__"]
    values = {"epochs": 3, "variant": "b1", "overrides": '{"translate": 4}'}
    for name, value in values.items():
        monkeypatch.setattr(main, name, value, raising=False)
    cells = ["", "epochs: int = 10\noverrides = ...", '# Parameters\nvariant = "b1"']
    monkeypatch.setattr(main, "In", cells, raising=False)
    found = TrainParameters.from_notebook()
    assert (found.epochs, found.variant, found.recipe.translate, found.seed) == (3, "b1", 4, 0)
    lines = found.table().splitlines()
    assert [line.split()[0] for line in lines] == list(TrainParameters.model_fields)
    assert lines[2] == "variant            b1          b0..b7 or lite0..lite4"
    assert lines[4].endswith("  3           passes over the training images [a whole number of at least 1]")
    moved = TrainParameters(data_dir="/some/where/data").table().splitlines()
    assert moved[1].split()[:2] == ["data_dir", ".../data"]


def test_images_to_train_on():
    assert images_to_train_on(50_000, 0, "test") == 50_000
    assert images_to_train_on(50_000, 0, "validation") == 45_000
    assert images_to_train_on(50_000, 10_000, "validation") == 10_000
