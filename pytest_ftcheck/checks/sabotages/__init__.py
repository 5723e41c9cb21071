"""Ways to break a recipe: the catalogue's negative controls, and what ``--ftcheck-sabotage`` does to users' own."""
