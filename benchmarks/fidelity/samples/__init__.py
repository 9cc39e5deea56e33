"""Small model files of every kind that people bring, made here: for the table of docs/formats.md
and for the tests.
"""
