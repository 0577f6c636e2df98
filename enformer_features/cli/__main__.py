"""``python -m enformer_features.cli`` is ``enformer-features``."""

import sys

from enformer_features.cli import main

sys.exit(main())
