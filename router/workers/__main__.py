"""What a supervisor starts; for nobody else: `python -m router.workers DESCRIPTOR MODULE...`."""

import sys

from router.workers.worker import main

sys.exit(main(sys.argv[1:]))
