"""What the numbers must be: closed forms of parameter counts and static memory, and what departing from them means."""
