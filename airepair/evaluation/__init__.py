"""What a model is and does: its work, what it counts, and the exams that every number is computed from."""
