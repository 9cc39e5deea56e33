"""Apricot and its submodels: copies of a subject trained on parts of its training data, and repair
steps as combinations of them.

method      the repair
submodels   trains them in one of three ways, counts their images
windows     which part of train each submodel sees
stack       their tensors, one stack per name
vmapped     K of them in one batched call (`torch.func`)
streams     each on a CUDA stream of its own
schedule    which way is fastest here
adjustment  cases x submodels -> coefficients of each block
cache       by content: a second run starts at the adjustment
"""
