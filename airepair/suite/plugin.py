"""The plugins of the suite, by name: the checkout's conftest.py loads them as they stand, an
installed suite under `airepair.suite`.
"""

MODULES = (
    "fixtures.options",
    "fixtures.model_files",
    "fixtures.selection",
    "fixtures.device",
    "fixtures.resume",
    "fixtures.sharding",
    "fixtures.scheduling",
    "fixtures.subject",
    "fixtures.repair",
    "fixtures.plan",
    "fixtures.afar",
    "fixtures.engine",
    "fixtures.isolation",
    "fixtures.arithmetic",
    "fixtures.expectation",
    "fixtures.live",
    "reports.bridge",
    "reports.reporter",
    "reports.account",
    "reports.gate",
    "fixtures.words",
)

pytest_plugins = [f"airepair.suite.{module}" for module in MODULES]
