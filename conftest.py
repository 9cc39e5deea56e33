"""Which plugins to load: fixtures/arithmetic.py sets up what torch and numpy read when they load,
so nothing here may import them.
"""

from airepair.suite.plugin import MODULES

pytest_plugins = list(MODULES)
