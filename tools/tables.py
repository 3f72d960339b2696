"""Tables and sentences made from the records: for the site's pages, and in the README between their marks.

    python -m tools.tables

writes the README's. A test checks that README.md holds what this writes: run it after a record was added or changed.
"""

import re
import statistics

from effnet_utils.experiments import records
from tools import measured
from tools.notebooks import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- from records: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
NOT_MEASURED = "not measured"
STAR = "\\* Measured with an earlier version of the code."
# What today's keys are called in records that were written earlier.
EARLIER_KEYS = {
    "eval_split": ("evaluate_on",),
    "fraction_of_peak": ("share_of_peak",),
    "image_size": ("size", "side"),
    "image_sizes": ("sizes", "sides"),
    "interval_95": ("two_errors",),
    "macs": ("mult_adds",),
    "matrix_size": ("size", "side"),
    "max_train_samples": ("train_limit",),
    "p_value": ("by_chance",),
}


def value(row, key):
    """A value of a record, under its key or under what the key was called in earlier records; None without any."""
    for name in (key, *EARLIER_KEYS[key]):
        if name in row:
            return row[name]
    return None


def table(titles, rows):
    """A Markdown table of texts."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def linked(name):
    """A link to a record, with a star if its code has changed since."""
    star = "\\*" if name in measured.listed() else ""
    return f"[record](records/{name}.json){star}"


def device(environment):
    cores = {1: "one CPU core", 2: "two CPU cores"}.get(environment["cores"], f"{environment['cores']} CPU cores")
    name = environment["device"]
    return f"{cores} ({name.removeprefix('CPU: ')})" if name.startswith("CPU") else name


def percent(fraction):
    return NOT_MEASURED if fraction is None else f"{100 * fraction:.2f} %"


def spread(row, digits):
    low, middle, high = (format(row[key], digits) for key in ("quartile_1", "median", "quartile_3"))
    return f"{middle} ({low} to {high})"


# --- Accuracy -----------------------------------------------------------------------------------------------------


def results():
    """Runs of notebook 07 on the test images, each recipe with all its seeds; what was not measured stands last."""
    titles = (
        "data", "stride layout", "epochs", "batch", "device", "seeds", "test accuracy", "with flip TTA",
        "fastest training", "",
    )  # fmt: skip
    by_recipe = {}
    for pattern in ("cifar10*_b0_*", "toy_*", "gpu_*_test_*"):
        for name, record in records.read_records(pattern).items():
            by_recipe.setdefault(re.sub(r"_(seed)?\d+$", "", name), {})[name] = record
    order = sorted(by_recipe, key=lambda name: (name.startswith("toy"), -mean_accuracy(by_recipe[name].values())))
    rows = [result(by_recipe[name]) for name in order]
    if not any(name.startswith("gpu") for name in by_recipe):
        rows.append(["CIFAR-10 or its JPEG mirror", "`cifar-fine`", "10", "512", "a GPU", "0", *[NOT_MEASURED] * 3, ""])
    return table(titles, rows)


def summary():
    """The README's choice of results: of each kind the best; not measured stands last."""
    titles = ("network", "data", "seeds", "test accuracy (range)", "with flip TTA", "fastest training on two CPU cores")
    tuned = "finetune_lite0_128-224px_all_rate0.0005_test_seed0"
    chosen = {
        "Lite0, fine-tuned at 128 to 224 pixels": {tuned: records.read_record(tuned)},
        "B0 from scratch, 12 epochs, `cifar`": records.read_records("cifar10-jpeg_b0_cifar-12-epochs_seed*"),
        "B0 from scratch, 10 epochs, `cifar`": records.read_records("cifar10-jpeg_b0_cifar_seed*"),
        "B0 from scratch, 10 epochs, `cifar-fast`": records.read_records("cifar10-jpeg_b0_cifar-fast_seed*"),
    }
    rows = []
    for what, runs in chosen.items():
        source, *_, seeds, accuracy, with_tta, time, links = result(runs)
        rows.append([what, source, seeds, accuracy, with_tta, f"{time} {links}"])
    if not records.read_records("gpu_*_test_*"):
        rows.append(["B0 on a GPU", "CIFAR-10 or its JPEG mirror", "0", *[NOT_MEASURED] * 3])
    return table(titles, rows)


def mean_accuracy(runs):
    return statistics.mean(record["results"]["test_accuracy"] for record in runs)


def result(runs):
    """The row of one recipe: its records by name, which differ in the seed."""
    first = next(iter(runs.values()))
    given = first["parameters"]
    dataset = first["dataset"]
    if dataset["name"] == "toy":
        source = "toy dataset"
    else:
        source = "CIFAR-10" if dataset["official"] else dataset["source"]
    layout = f"`{given.get('layout') or given.get('pilot')}`"
    devices = ", ".join(dict.fromkeys(device(record["environment"]) for record in runs.values()))
    found = [record["results"] for record in runs.values()]
    accuracies = [over_seeds([row["test_accuracy"] for row in found])]
    with_tta = [row["flip_averaged_accuracy"] for row in found if "flip_averaged_accuracy" in row]
    accuracies.append(over_seeds(with_tta) if with_tta else NOT_MEASURED)
    # Of the fastest run: some shared their machine with other work.
    seconds = min(record["seconds"]["train"] for record in runs.values())
    links = " ".join(linked(name) for name in runs)
    recipe = [source, layout, str(given["epochs"]), str(given["batch_size"]), devices]
    return [*recipe, str(len(runs)), *accuracies, f"{seconds / 60:.1f} min", links]


def over_seeds(fractions):
    """The mean, with several seeds also their range."""
    mean = percent(statistics.mean(fractions))
    if len(fractions) == 1:
        return mean
    return f"{mean} ({100 * min(fractions):.2f} to {100 * max(fractions):.2f})"


def accuracy_and_time(record, seconds):
    """Cells: device, test accuracy, that with flip test-time augmentation, minutes."""
    found = record["results"]
    accuracies = [percent(found["test_accuracy"]), percent(found.get("flip_averaged_accuracy"))]
    return [device(record["environment"]), *accuracies, f"{seconds / 60:.1f} min"]


def transfer():
    """Lite0 from ImageNet's weights on all training images: a linear classifier, then fine-tuning."""
    titles = ("what is trained", "image size", "device", "test accuracy", "with flip TTA", "time", "")
    name = "transfer_lite0_seed0"
    linear = records.read_record(name)
    reached = accuracy_and_time(linear, sum(linear["seconds"].values()))
    size = f"{linear['parameters']['resolution_used']} pixels"
    rows = [["a linear classifier on fixed features", size, *reached, linked(name)]]
    tuned = records.read_records("finetune_lite0_*px_all_*_test_*")
    for name, record in tuned.items():
        what = f"all convolutions, {record['parameters']['epochs']} epochs"
        reached = accuracy_and_time(record, record["seconds"]["train"])
        rows.append([what, image_sizes(record), *reached, linked(name)])
    what = f"On the {linear['dataset']['n_train']:,} training images of the {linear['dataset']['source']}."
    compared = records.read_records("benchmarks/exact_pixels_*")
    notes = [exact_pixels(name, record, tuned[record["model"]]) for name, record in compared.items()]
    return "\n\n".join([what, table(titles, rows), *notes])


def image_sizes(record):
    """Those of a fine-tuning. The first record has only one size."""
    given = record["parameters"]
    sizes = value(given, "image_sizes") or [value(given, "image_size")]
    return f"{' to '.join(map(str, sizes))} pixels"


def exact_pixels(name, record, run):
    """What the mirror's pixels cost the network of a run."""
    found = record["results"]
    mirror = found["mirror"]
    exact = found["exact"]
    accuracy, exact_accuracy = (
        f"{100 * row['test_accuracy']:.1f} ± {100 * value(row, 'interval_95'):.1f} %" for row in (mirror, exact)
    )
    count = f"{record['datasets']['exact']['n_test']:,}"
    return (
        f"The network of the run at {image_sizes(run)}, on the first {count} test images: {accuracy} with the mirror's "
        f"pixels, {exact_accuracy} with the exact pixels of CIFAR-10, on which it was never trained (± is the 95 % "
        f"confidence interval). Right with the mirror's only: {mirror['right_only_here']}, with the exact only: "
        f"{exact['right_only_here']} (McNemar's exact test: p-value {value(found, 'p_value'):.3f}); {linked(name)}, "
        "`make bench BENCH=exact_pixels`."
    )


# --- Speed and cost -----------------------------------------------------------------------------------------------


def speed():
    """Throughput on two makers' CPUs: ours against each of the others."""
    amd, intel = (records.read_record(f"benchmarks/throughput_cpu_{maker}") for maker in ("amd", "intel"))
    titles = (
        "", "training, images/s", "ours ÷ this", "ours ÷ this, Intel", "prediction, images/s", "ours ÷ this",
        "first step",
    )  # fmt: skip
    rows = []
    for name, facts in amd["implementations"].items():
        row = [name]
        for task in ("train", "predict"):
            row += [spread(amd["images_per_second"][task][name], ".0f"), times(amd, task, name)]
        row.insert(3, times(intel, "train", name))
        rows.append([*row, f"{facts['compile_seconds']['train']:.0f} s"])
    what = (
        f"{amd['what'][0].upper()}{amd['what'][1:]}; median (quartiles). {device(amd['environment'])}: "
        f"{linked('benchmarks/throughput_cpu_amd')}; {device(intel['environment'])}: "
        f"{linked('benchmarks/throughput_cpu_intel')}; `make bench BENCH=throughput`"
    )
    timed = (
        "Times are those of the steps. Whole calls of `fit` and `predict` on arrays may end seconds later, when "
        "tf.data's autotuning does. On Intel, whole calls were timed, so those that use tf.data are not measured there."
    )
    return f"{what}.\n\n{table(titles, rows)}\n\n{timed}"


def times(record, task, name):
    """The spread of ours / name in a record of throughput; "" for ours itself."""
    if name == "ours":
        return ""
    # Records without this key timed whole calls of ``fit``, which tf.data may delay by more than they take.
    if "seconds_after_last_step" not in record and name in ("ours, arrays", "keras.applications"):
        return NOT_MEASURED
    return spread(record["ratio"][task][f"ours / {name}"], ".2f")


def latency():
    """One image at a time: the ways to ask a trained network."""
    record = records.read_record("benchmarks/latency_cpu")
    rows = [
        [name, spread(row, ".1f"), spread(record["ratio_to_onnx"][name], ".2f")]
        for name, row in record["milliseconds"].items()
    ]
    titles = ("", "milliseconds", "÷ ONNX")
    where = f"{device(record['environment'])}; median (quartiles) of {record['rounds']} rounds"
    what = f"One image, B0 at 224 pixels, on {where}; {linked('benchmarks/latency_cpu')}, `make bench BENCH=latency`."
    return f"{what}\n\n{table(titles, rows)}"


def cost():
    """How the time grows with the multiply-adds (MACs)."""
    record = records.read_record("benchmarks/cost")
    titles = ("", "MACs", "a training step", "fraction of peak", "inference", "fraction of peak")
    rows = []
    for series, points in record["series"].items():
        first = points[0]
        last = points[-1]
        growth = value(last, "macs") / value(first, "macs")
        row = [f"{series} {first['point']} → {last['point']}", f"× {growth:.3g}"]
        for mode in ("train", "inference"):
            growth = last["seconds"][mode]["median"] / first["seconds"][mode]["median"]
            fractions = [value(point, "fraction_of_peak")[mode]["median"] for point in (first, last)]
            row += [f"× {growth:.3g}", " → ".join(f"{fraction:.0%}" for fraction in fractions)]
        rows.append(row)
    peak = record["peak"]
    speed = f"{peak['operations_per_second']['median'] / 1e9:.0f} GFLOP/s"
    what = f"The peak is {speed}, that of a matrix product of {value(peak, 'matrix_size')}²"
    where = f"on {device(record['environment'])}; {linked('benchmarks/cost')}, `make bench BENCH=cost`."
    return f"{what}, {where}\n\n{table(titles, rows)}"


def start():
    """From a fresh clone to a trained model."""
    record = records.read_record("benchmarks/cold_start")
    found = record["from_clone"]
    seconds = found["seconds"]
    return (
        f"On {device(record['environment'])} the set-up took {seconds['set-up']:.0f} s; `.venv` takes "
        f"{found['venv_bytes'] / 1e9:.1f} GB. `make run` took another {seconds['run']:.0f} s, reaching "
        f"{100 * found['run']['test_accuracy']:.1f} % test accuracy on the toy dataset "
        f"({linked('benchmarks/cold_start')})."
    )


def imports():
    """What importing costs."""
    record = records.read_record("benchmarks/cold_start")
    package, keras = (
        record["imports"][name]["beyond_python"]["median"] for name in ("import effnet_utils", "import keras")
    )
    return (
        f"Beyond Python's own start `import effnet_utils` takes {1000 * package:.0f} ms, `import keras` {keras:.1f} s "
        f"({linked('benchmarks/cold_start')}, `make bench BENCH=cold_start`)."
    )


def faults():
    """Which faults were caused on purpose, and how often a run survived them."""
    record = records.read_record("benchmarks/faults")
    rows = [[name, f"{row['tried']:,}", f"{row['survived']:,}"] for name, row in record["faults"].items()]
    where = f"On {device(record['environment'])}; {linked('benchmarks/faults')}, `make test-faults`."
    return f"{where}\n\n{table(('fault', 'tried', 'survived'), rows)}"


# --- Equal to the reference (tools/proof.py) -----------------------------------------------------------------------


def parity():
    """What was found equal to keras.applications."""
    record = records.read_record("benchmarks/proof")
    rows = record["parity"]
    labels = {
        "weights": "weight tensors",
        "maps": "feature maps, stem to logits",
        "max_difference": "largest difference",
    }
    lines = [[label, *(f"{row[key]:g}" for row in rows.values())] for key, label in labels.items()]
    sizes = ", ".join(f"{name}: {row['max_difference']:g}" for name, row in record["sizes"].items())
    step = record["training step"].items()
    steps = ", ".join(f"{row['tensors']} {name}: {row['max_difference']:g}" for name, row in step)
    keras = record["environment"]["keras"]
    different = record["open size"]["reference"]["75×75"]
    if different:
        fact = f"does not at 75×75: its feature maps differ from the {different} on"
    else:
        fact = "does so too"
    return "\n\n".join(
        [
            table(["", *(variant.upper() for variant in rows)], lines),
            f"Largest difference at other sizes: {sizes}. After one training step of B0: {steps}.",
            "Built for `(None, None, 3)`, ours gives the feature maps of the fixed size; the reference of Keras "
            f"{keras} {fact}.",
            f"On {device(record['environment'])}, Keras {keras}; {linked('benchmarks/proof')}, `make proof`.",
        ]
    )


def noticed(found):
    """How many of the mistakes any of the seven checks notices, and how many the usual test, the last column."""
    rows = [list(row.values()) for row in found.values()]
    return sum(any(row[:-1]) for row in rows), sum(bool(row[-1]) for row in rows)


def mutants():
    """Which of the checks notice a network with one mistake, and for comparison the usual test."""
    found = records.read_record("benchmarks/proof")["teeth"]
    *checks, usual = next(iter(found.values()))
    titles = ["one mistake", *checks, f"usual test: {usual}"]
    rows = [[name, *("caught" if said else "–" for said in row.values())] for name, row in found.items()]
    caught = {check: sum(bool(row[check]) for row in found.values()) for check in (*checks, usual)}
    return (
        f"{table(titles, rows)}\n\n"
        f"The usual test, initial weights and a tolerance of 1e-5, notices {caught[usual]} of the {len(found)} "
        f"mistakes; random weights and exactly equal feature maps notice {caught['feature maps']}. Drop rates act in "
        "training only, and initial values are replaced before feature maps are compared."
    )


# --- In one sentence each ------------------------------------------------------------------------------------------


def claims():
    """What the README says of parity, speed, faults and scale."""
    proof = records.read_record("benchmarks/proof")
    largest = max(row["max_difference"] for row in proof["parity"].values())
    caught, _ = noticed(proof["teeth"])
    amd = records.read_record("benchmarks/throughput_cpu_amd")
    keras, torch = (
        amd["ratio"]["train"][f"ours / {name}"]["median"]
        for name in ("keras.applications", "PyTorch compiled, channels last")
    )
    other_way = amd["ratio"]["predict"]["ours / PyTorch compiled"]["median"]
    found = records.read_record("benchmarks/faults")["faults"]
    killed = found["runs of 07 killed at a random moment, resumed bit for bit"]
    sweep = records.read_record("benchmarks/sweep_cpu")
    gain = sweep["two_workers_to_one"]["median"]
    lines = [
        f"**Parity**: with the weights of `keras.applications`' B0 to B7, feature maps and logits differ by "
        f"{largest:g}, and {caught} of {len(proof['teeth'])} mistakes made on purpose are caught "
        f"({linked('benchmarks/proof')}).",
        f"**Speed**, on two CPU cores: in training {keras:.1f} times as fast as `keras.applications`, {torch:.1f} "
        f"times compiled PyTorch; in prediction PyTorch is {1 / other_way:.1f} times as fast "
        f"({linked('benchmarks/throughput_cpu_amd')}).",
        f"**Faults**: {killed['survived']} of {killed['tried']} runs killed at a random moment and resumed ended with "
        f"the weights of an uninterrupted run, bit for bit ({linked('benchmarks/faults')}).",
        f"**Scale**: `python -m effnet_utils sweep` runs grids on cores, GPUs or a Ray cluster; on two cores, "
        f"two at a time finish {gain:.1f} times as many per hour as one ({linked('benchmarks/sweep_cpu')}).",
    ]
    return "\n".join(f"- {line}" for line in lines)


BLOCKS = {
    function.__name__: function
    for function in (
        summary, results, transfer, speed, latency, cost, start, imports, faults, parity, mutants, claims,
    )
}  # fmt: skip
# Those that only the README has.
README_ONLY = ("summary", "claims")


def block(name):
    """The text of one of BLOCKS, with a note on the star if there is one."""
    text = BLOCKS[name]()
    return f"{text}\n\n{STAR}" if ".json)\\*" in text else text


def filled(text):
    """The text with each block made anew. Raises KeyError for a mark that names no block."""
    return BLOCK.sub(lambda found: found[1] + block(found[2]) + found[3], text)


def main():
    text = filled(README.read_text(encoding="utf-8"))
    README.write_text(text, encoding="utf-8")
    print("README.md:", ", ".join(name for _, name, _ in BLOCK.findall(text)))


if __name__ == "__main__":
    main()
