"""What a model is and does: its digest, its work, and the exams that every number is computed from."""
