"""What a model is and does: its digest, and the exams that every number is computed from."""
