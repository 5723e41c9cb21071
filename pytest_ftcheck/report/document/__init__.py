"""The report of a session, for people: what is in it, and how it is written as HTML, Markdown and JSON."""
