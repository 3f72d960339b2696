import sys

from effnet_utils.run import main

sys.exit(main())
