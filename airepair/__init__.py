"""AIREPAIR: runs neural-network repair methods on the same model, fairly, and says which to use.

Nothing is imported here: the reports and the pytest plugin must load without torch.
"""

__version__ = "0.1.0"
# What a number means: splits, budgets, settings, metrics. Numbers of two versions never stand in one table. 2: the cell's seed draws the splits.
BENCHMARK_VERSION = 2
