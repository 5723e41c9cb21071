"""Ways to break a recipe: the negative controls of the catalogue, and what ``--ftcheck-sabotage`` does to a user's own."""
