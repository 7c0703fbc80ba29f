"""What a supervisor starts; for nobody else: `python -m router.workers DESCRIPTOR MODULE...`."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # until `tune_collector`
    from router.workers.worker import main

    sys.exit(main(sys.argv[1:]))
