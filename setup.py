"""The suite's folders of the checkout go into the wheel under the project's own name: no top-level
`fixtures` or `reports` is installed.
"""

from setuptools import find_packages, setup

SUITE = ("benchmarks", "fixtures", "reports")

setup(
    packages=[*find_packages(include=["airepair*"]), *(f"airepair.suite.{name}" for name in SUITE)],
    package_dir={f"airepair.suite.{name}": name for name in SUITE},
    package_data={
        "airepair": ["py.typed", "*.toml", "**/*.toml", "**/*.j2", "models/shipped/*.h5"],
        "airepair.suite.reports": ["paper/*.csv"],
    },
)
