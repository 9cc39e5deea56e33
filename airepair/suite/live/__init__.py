"""Where a run stands while it runs: files that its processes write, the lines that a person reads,
`airepair watch`.
"""
