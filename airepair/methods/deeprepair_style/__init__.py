"""What style-guided DeepRepair is made of: clusters of failures, style transfer without a
pretrained encoder, AugMix chains, the consistency loss.
"""
