"""What the numbers must be: closed forms of parameters, static memory and FLOPs, and what departing from them means."""
