"""Training: one loop, its step, the state that is kept, and a baseline's training that survives a kill.

`fit` is what methods call.
"""

from airepair.training.best_state import fit

__all__ = ["fit"]
