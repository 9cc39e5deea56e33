"""The grid: every (data set, model, method, seed) as a pytest case."""
