"""The web page: a process of its own that makes the calls of the local socket for people.

It keeps no data and has no rights: the daemon checks the login and the role at each call. Pages are
complete without JavaScript.
"""
