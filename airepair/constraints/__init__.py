"""DL2's logic as a small typed library (Fischer et al., ICML 2019): terms, formulas over them, named
constraints, and a parser.

terms.py        what can be compared: numbers, labels, outputs of the network at a point, distances
formulas.py     <=, <, ==, !=, and, or, not, implication, over a batch: `loss` (N, >= 0) and `satisfied` (N)
published.py    a formula, the points it ranges over, and the published constraints by name
parser.py       text to constraints, never evaluated by Python; errors point at the character
counterexamples.py        points at which a constraint is broken most; counterexamples_graph.py:
                          the same as one CUDA graph
"""
