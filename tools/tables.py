"""The README's figures, made from the records and written between their marks.

    python benchmarks/tables.py

A test demands that README.md holds what this writes: run it after a record was added or changed.
"""

import re
import statistics
from pathlib import Path

from effnet_utils import records

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- from records: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
NOT_MEASURED = "not measured"


def table(titles, rows):
    """A Markdown table of texts."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def linked(name):
    return f"[record](records/{name}.json)"


def device(environment):
    cores = {1: "one CPU core", 2: "two CPU cores"}.get(environment["cores"], f"{environment['cores']} CPU cores")
    name = environment["device"]
    return f"{cores} ({name.removeprefix('CPU: ')})" if name.startswith("CPU") else name


def results():
    """Runs of notebook 07 on the test images, the best first; then the GPU's, the median of their seeds."""
    titles = (
        "data", "layout", "epochs", "batch", "device", "test accuracy", "averaged over mirror images", "training", "",
    )  # fmt: skip
    runs = records.read_records("cifar10*_b0_*") | records.read_records("toy_*")
    order = sorted(runs, key=lambda name: (name.startswith("toy"), -runs[name]["results"]["test_accuracy"]))
    rows = [result(runs[name], linked(name)) for name in order]
    gpu = records.read_records("gpu_*_test_*")
    if not gpu:
        rows.insert(0, ["CIFAR-10 or its JPEG mirror", "`cifar-fine`", "10", "512", "a GPU", *[NOT_MEASURED] * 3, ""])
        return table(titles, rows)
    groups = {}
    for name, record in gpu.items():
        groups.setdefault(name.rsplit("_", 1)[0], []).append(record)
    rows = [result(statistics_of(group), f"{len(group)} seeds, `{name}`") for name, group in groups.items()] + rows
    return table(titles, rows)


def statistics_of(group):
    """A record of the group with the medians of its figures."""
    middle = dict(group[0])
    for part, keys in (("results", ("test_accuracy", "flip_averaged_accuracy")), ("seconds", ("train",))):
        middle[part] = {key: statistics.median(record[part][key] for record in group) for key in keys}
    return middle


def result(record, last):
    given, facts = record["parameters"], record["dataset"]
    source = {"toy": "toy set"}.get(facts["name"], "CIFAR-10" if facts["official"] else facts["source"])
    layout = f"`{given.get('layout') or given['pilot']}`"
    how = reached(record, record["seconds"]["train"])
    return [source, layout, str(given["epochs"]), str(given["batch_size"]), *how, last]


def reached(record, seconds):
    """Cells: device, test accuracy, that averaged over mirror images, minutes."""
    found = record["results"]
    accuracies = [found["test_accuracy"], found.get("flip_averaged_accuracy")]
    shares = [NOT_MEASURED if share is None else f"{100 * share:.2f} %" for share in accuracies]
    return [device(record["environment"]), *shares, f"{seconds / 60:.1f} min"]


def transfer():
    """Lite0 from ImageNet's weights on all training images: a linear classifier, then fine-tuning."""
    titles = ("what learns", "side of the images", "device", "test accuracy", "averaged over mirror images", "time", "")
    name = "transfer_lite0_seed0"
    linear = records.read_record(name)
    side, how = f"{linear['parameters']['resolution_used']} pixels", reached(linear, sum(linear["seconds"].values()))
    rows = [["a linear classifier on fixed features", side, *how, linked(name)]]
    tuned = records.read_records("finetune_lite0_*px_all_*_test_*")
    for name, record in tuned.items():
        what = f"all convolutions, {record['parameters']['epochs']} epochs"
        rows.append([what, sides(record), *reached(record, record["seconds"]["train"]), linked(name)])
    what = f"On the {linear['dataset']['n_train']:,} training images of the {linear['dataset']['source']}."
    compared = records.read_records("benchmarks/exact_pixels_*")
    notes = [pixels(name, record, tuned[record["model"]]) for name, record in compared.items()]
    return "\n\n".join([what, table(titles, rows), *notes])


def sides(record):
    """Of a fine-tuning's images. The first record has one side only."""
    given = record["parameters"]
    return f"{' to '.join(map(str, given.get('sides', [given['side']])))} pixels"


def pixels(name, record, run):
    """What the mirror's pixels cost the network of a run."""
    mirror, exact = (record["results"][kind] for kind in ("mirror", "exact"))
    share, exact_share = (
        f"{100 * row['test_accuracy']:.1f} ± {100 * row['two_errors']:.1f} %" for row in (mirror, exact)
    )
    count = f"{record['datasets']['exact']['n_test']:,}"
    return (
        f"The network of the run at {sides(run)}, on the first {count} test images: {share} with the mirror's "
        f"pixels, {exact_share} with the exact pixels of CIFAR-10, which it never learnt from. Right with the mirror's "
        f"only: {mirror['right_only_here']}, with the exact only: {exact['right_only_here']} (as uneven by chance "
        f"alone: {100 * record['results']['by_chance']:.1f} % of the time); {linked(name)}, "
        "`python benchmarks/exact_pixels.py`."
    )


def speed():
    """Throughput on a CPU: ours against each of the others."""
    record = records.read_record("benchmarks/throughput_cpu")
    titles = ("", "training, images/s", "ours ÷ this", "prediction, images/s", "ours ÷ this", "first step")
    rows = []
    for name, facts in record["implementations"].items():
        row = [name]
        for task in ("train", "predict"):
            rate = record["images_per_second"][task][name]
            ratio = record["ratio"][task].get(f"ours / {name}")
            row += [spread(rate, ".0f"), "" if ratio is None else spread(ratio, ".2f")]
        rows.append([*row, f"{facts['compile_seconds']['train']:.0f} s"])
    what = f"{record['what'][0].upper()}{record['what'][1:]}; {device(record['environment'])}; median (quartiles)"
    return f"{what}; {linked('benchmarks/throughput_cpu')}, `make bench BENCH=throughput`.\n\n{table(titles, rows)}"


def spread(row, digits):
    low, middle, high = (format(row[key], digits) for key in ("quartile_1", "median", "quartile_3"))
    return f"{middle} ({low} to {high})"


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
    """How the seconds grow with the mult-adds."""
    record = records.read_record("benchmarks/cost")
    titles = ("", "mult-adds", "a training step", "of the peak", "inference", "of the peak")
    rows = []
    for series, points in record["series"].items():
        first, last = points[0], points[-1]
        row = [f"{series} {first['point']} → {last['point']}", f"× {last['mult_adds'] / first['mult_adds']:.3g}"]
        for mode in ("train", "inference"):
            times = [point["seconds"][mode]["median"] for point in (first, last)]
            shares = [f"{point['share_of_peak'][mode]['median']:.0%}" for point in (first, last)]
            row += [f"× {times[1] / times[0]:.3g}", " → ".join(shares)]
        rows.append(row)
    peak, where = record["peak"], device(record["environment"])
    what = f"The peak: {peak['operations_per_second']['median'] / 1e9:.0f} GFLOP/s, a matrix product of {peak['side']}²"
    return f"{what}, on {where}; {linked('benchmarks/cost')}, `make bench BENCH=cost`.\n\n{table(titles, rows)}"


def start():
    """From a fresh clone, and imports."""
    record = records.read_record("benchmarks/cold_start")
    seconds, accuracy = record["from_clone"]["seconds"], record["from_clone"]["run"]["test_accuracy"]
    names = ("import effnet_utils", "import keras")
    package, keras = (record["imports"][name]["beyond_python"]["median"] for name in names)
    return (
        f"From a fresh clone to a model with {100 * accuracy:.1f} % on the toy set: {seconds['total']:.0f} s. Of "
        f"these the set-up takes {seconds['set-up']:.0f} s (it downloads packages), `make run` {seconds['run']:.0f} s. "
        f"Beyond Python's own start `import effnet_utils` takes {1000 * package:.0f} ms, `import keras` {keras:.1f} s. "
        f"On {device(record['environment'])}; "
        f"{linked('benchmarks/cold_start')}, `make bench BENCH=cold_start`."
    )


def faults():
    """What was done to runs on purpose, and how often it was survived."""
    record = records.read_record("benchmarks/faults")
    rows = [[name, f"{row['tried']:,}", f"{row['survived']:,}"] for name, row in record["faults"].items()]
    where = f"On {device(record['environment'])}; {linked('benchmarks/faults')}, `make faults`."
    return f"{where}\n\n{table(('fault', 'tried', 'survived'), rows)}"


BLOCKS = {function.__name__: function for function in (results, transfer, speed, latency, cost, start, faults)}


def filled(text):
    """The text with each block made anew. Raises KeyError for a mark that names no block."""
    return BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], text)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
    print("README.md:", ", ".join(name for _, name, _ in BLOCK.findall(README.read_text())))
