"""What a GPU does in a training step: the operations that take the most of it, for each of `throughput --on gpu`.

    KERAS_BACKEND=jax python -m benchmarks.gpu_profile              # after throughput --on gpu; about two minutes
    KERAS_BACKEND=jax python -m benchmarks.gpu_profile --tiny       # small batches, on a CPU, too

Each implementation is built again, trains warm, then once more under its framework's profiler. Times are those of the
device's own operations, kernels and copies, added by name: what is missing to the step's time is the device waiting.
Names are the compilers' (XLA's, Triton's) or the libraries' (cuDNN's). Writes records/benchmarks/profile_gpu.json.
"""

from benchmarks._common import argument_parser, write_benchmark
from benchmarks._throughput import Worker, check_machine, worker_options
from effnet_utils.experiments import records

SIZE = 32
LINES = 25


def percentages(operations, seconds):
    """Lines of text, the longest operation first: its part of all operations, milliseconds, name; then their sum.

    Args:
        operations: dict {name: seconds on the device}.
        seconds: float, that the profiled steps took.
    """
    total = sum(operations.values())
    longest = sorted(operations, key=operations.get, reverse=True)[:LINES]
    rows = [f"{operations[name] / total:6.1%} {1000 * operations[name]:10.2f} ms  {name}" for name in longest]
    return [*rows, f"{len(operations)} names, {1000 * total:.2f} ms in all, in steps that took {1000 * seconds:.2f} ms"]


def main(arguments=None):
    given = argument_parser("gpu_profile", __doc__).parse_args(arguments)
    options = worker_options("gpu", SIZE, given.tiny)
    check_machine("gpu", given.tiny, options)
    profiles = {}
    for name, own in options.items():
        worker = Worker(name, own)
        try:
            worker.read()
            answer = worker.ask("profile")
        finally:
            worker.stop()
        profiles[name] = percentages(answer["operations"], answer["seconds"])
        print("\n".join([name, *profiles[name]]), flush=True)
    record = {
        "what": f"{own['steps']} training steps of B0 at {SIZE}x{SIZE}, batch {own['batch_size']}, {own['precision']}",
        "profiles": profiles,
        "environment": records.environment(),
    }
    write_benchmark(given, "profile_gpu", record)


if __name__ == "__main__":
    main()
