import sys

from effnet_utils.run import main

if __name__ == "__main__":
    sys.exit(main())
