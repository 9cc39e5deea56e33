"""How fast the parts are, as ratios within one run: each part beside what it replaces, the same
work, in turn.

    python -m benchmarks.perf                      all, on CUDA if there is one, else on one CPU
    thread; into reports/perf/
    python -m benchmarks.perf --only training,oracle --repeats 3 --out /tmp/perf

Seconds on a shared machine say little, ratios of neighbours in time say more: the arms of a
comparison run alternately, a ratio is taken of each pair, and minimum, median and maximum are
shown. It is no part of `pytest benchmarks`: nothing here depends on a repair.
"""
