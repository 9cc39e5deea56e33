"""Weighted regularisation (Zhong, Tian and others): the losses, the second half of w-bn's steps,
and CutMix.
"""
