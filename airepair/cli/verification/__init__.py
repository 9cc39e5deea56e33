"""Records are verified: against themselves, against this machine's data and methods, and by running a
sample of their cells again.

answers.py    scores against the right answers and predictions that stand beside them
settings.py   options against the method's own
splits.py     digests against the data of this machine
sample.py     which cells are run again, as specs; again.py, child.py and cells.py run them elsewhere
merging.py    what stands against joining folders of records
judging.py    whether a repeated cell reproduces the reported one
mark.py       reported, reproduced or contradicted: the file that says so
entry.py      what an entry for the leaderboard lacks
"""
