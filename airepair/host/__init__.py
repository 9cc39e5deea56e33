"""What the machine gives and takes: files written whole, tensors kept in files, signals, processes,
and data from outside, checked.
"""
