"""`python -m infinitetalk.cli` is the command `infinitetalk`."""

import sys

from infinitetalk.cli import main

sys.exit(main())
