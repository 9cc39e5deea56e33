"""Submodels: copies of a subject trained on parts of its training data, kept as stacks, and blocks of repair steps as combinations of them.

windows    which part of train each submodel sees            training     trains them (one by one or together), counts their images
stack      their tensors, one stack a name                   together     K of them in one batched call (`torch.func`)
steps      cases x submodels -> coefficients of each block   probe        which of the two is faster here
                                                             cache        by content: a second run starts at the adjustment
"""
