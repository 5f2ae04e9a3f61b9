"""The web page: a process of its own that makes the same calls as the command line."""
