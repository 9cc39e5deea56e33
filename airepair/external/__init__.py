"""Where foreign tools run: manifests, environments of their own, child processes with limits.

Loads without torch.
"""
