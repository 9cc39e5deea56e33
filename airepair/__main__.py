"""`python -m airepair`."""

import sys

from airepair.cli.main import main

sys.exit(main())
