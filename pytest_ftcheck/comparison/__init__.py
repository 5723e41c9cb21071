"""Two trainings held against each other on one machine, at one time: what each costs, and how long a step takes."""
