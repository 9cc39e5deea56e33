"""Keras files (.h5, .keras; Keras 2 and 3)."""
