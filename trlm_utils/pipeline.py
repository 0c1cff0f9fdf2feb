"""``python -m trlm_utils.pipeline``: the former name of ``python -m trlm_utils``."""

import sys

from trlm_utils.runner.command import main

if __name__ == "__main__":
    sys.exit(main())
