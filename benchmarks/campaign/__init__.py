"""The grid in runs of a few minutes on machines that come and go (`python -m benchmarks.campaign`)."""
