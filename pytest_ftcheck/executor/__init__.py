"""Runs that are carried out elsewhere: workers ask by a mailbox, and the controller submits to a cluster."""
