"""How numbers are computed: what makes a run portable, whether it worked, the precision of a network.

setup.py      what the CPU's libraries read when they load; imported before torch and numpy
canary.py     whether this process computes portably
exact.py      functions with the same bits on every processor
precision.py  bf16 and channels_last on the CPU
"""
