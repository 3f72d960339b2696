import os
import subprocess
import sys
from contextlib import contextmanager

# A process of its own, so that what a library says before it aborts is not lost.
FILTER = """
import re, sys
noise = re.compile("[IW][0-9]{4} |WARNING: All log messages before absl|To enable the following instructions|E.*cuInit")
for line in sys.stdin:
    if not noise.match(line):
        sys.stderr.write(line)
"""


@contextmanager
def without_start_up_lines():
    """Without the lines that TensorFlow writes past Python's own streams when it is loaded."""
    filtered = subprocess.Popen([sys.executable, "-I", "-S", "-c", FILTER], stdin=subprocess.PIPE)
    stderr = os.dup(2)
    os.dup2(filtered.stdin.fileno(), 2)
    filtered.stdin.close()
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        filtered.wait()


if __name__ == "__main__":
    with without_start_up_lines():
        from effnet_utils.experiments.cli import main
    sys.exit(main())
