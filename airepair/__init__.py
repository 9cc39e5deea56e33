"""AIREPAIR: runs neural-network repair methods on the same model, fairly, and says which to use.

Nothing is imported here: the reports and the pytest plugin must load without torch.
"""

__version__ = "0.1.0"
