"""Which plugins to load. Idle OpenMP threads must sleep, and that is read when torch loads."""

import os

from airepair.suite.plugin import MODULES

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
pytest_plugins = list(MODULES)
