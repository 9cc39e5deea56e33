"""What the linear-programming and least-squares repairs share: the layer under repair, its affine
effect on the logits, the program, its proof.
"""
