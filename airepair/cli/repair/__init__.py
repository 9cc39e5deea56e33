"""A run of `airepair repair`: what it repairs, with which options, what a person sees meanwhile,
and the folder that it leaves.
"""
