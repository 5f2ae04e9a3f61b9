"""The web page of the gateway: a process of its own, which makes the calls of the local socket."""
