"""How faithfully model files are read and written back: the tables of docs/formats.md."""
