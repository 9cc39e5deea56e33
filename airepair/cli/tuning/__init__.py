"""Fair tuning: for each data set, model and method the same number of trials, and the same budget of
training images per trial.

space    what may be searched: the ranges that stand in a method's options
study    trials shared between processes and kept on disk (Optuna's journal); trial 0 is the default settings
trial    one trial: a repair for each tuning seed, scored on validation, its test split out of reach
table    tuned.toml, the table that `--auto` reads
"""
