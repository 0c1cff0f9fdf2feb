"""``python -m trlm_utils``: the command line of the course."""

import sys

from trlm_utils.runner.command import main

sys.exit(main())
