"""The gate: new records against a baseline's, and an exit code that is never green by accident.
Free of torch.

defaults.py   the rule and the level if nobody states others
rules.py      what may get worse, by how much: `accuracy:-0.5pp`, `dl2/seconds:+50%`
pairing.py    the two records of each cell and seed; what is missing, what cannot be compared
decision.py   whether a change lies beyond what is allowed, over seeds and test images
verdict.py    all findings, and the exit code
output.py     the table, JSON, a Markdown summary, a badge
"""
