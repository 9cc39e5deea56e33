"""The reporter plugin, the bridge to pytest-benchmark under xdist, and the paper's own numbers."""
