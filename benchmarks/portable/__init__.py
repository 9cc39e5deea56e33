"""What digits cells become in portable arithmetic, as digests: what a machine anywhere must find
again, and a way to see why one does not.
"""
