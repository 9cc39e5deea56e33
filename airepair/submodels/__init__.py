"""Submodels: copies of a subject trained on parts of its training data, kept as stacks, and blocks of repair steps as combinations of them.

windows    which part of train each submodel sees            training     trains them in one of three ways, counts their images
stack      their tensors, one stack a name                   together     K of them in one batched call (`torch.func`)
steps      cases x submodels -> coefficients of each block   streams      each on a CUDA stream of its own
probe      which way is fastest here                         cache        by content: a second run starts at the adjustment
"""
