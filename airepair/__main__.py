"""`python -m airepair`."""

import sys

from airepair.cli import main

sys.exit(main())
