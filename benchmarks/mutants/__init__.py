"""Mutation testing: small faults put into the code one at a time, and whether the tests notice
(`python -m benchmarks.mutants`).
"""
