"""``python -m trlm_utils``: the command line of the course."""

import signal
import sys

from trlm_utils.runner.command import main

signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends what was started
sys.exit(main())
