"""DeepCorrect: correction units on the filters that a distortion hurts most.

method       the repair
distortions  blur, noise and corruptions at several levels
"""
