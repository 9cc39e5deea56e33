"""Where cells run: an engine starts cells and reports how each of them ended."""
