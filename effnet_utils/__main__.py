import sys

from effnet_utils.experiments.cli import main

if __name__ == "__main__":
    sys.exit(main())
