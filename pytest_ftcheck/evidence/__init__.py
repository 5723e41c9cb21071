"""What checks look at: short trainings, traced, and what can be told from them. Nothing is judged here."""
