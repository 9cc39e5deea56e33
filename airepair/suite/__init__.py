"""The pytest suite: `benchmarks`, `fixtures` and `reports` of the checkout, installed under this
name (see pyproject.toml).
"""
