"""What the gate judges by if nobody states rules.

Without imports: the help of a command shows it before numpy may load (airepair/host/arithmetic/setup.py).
"""

RULES = ("accuracy:-1pp",)
LEVEL = 0.95
