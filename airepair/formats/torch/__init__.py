"""PyTorch files: weights, programs."""
