"""Where a Subject comes from: trained by the grid (`trained`, with a known fault `faulty`), or a
model file of a user's own (`brought`).
"""
