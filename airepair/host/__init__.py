"""What the machine gives and takes: its arithmetic (`arithmetic/`), files written whole, tensors kept
in files, signals, processes, and data from outside, checked.
"""
