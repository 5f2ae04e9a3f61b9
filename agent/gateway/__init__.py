"""The gateway: what is open, the components that run, and each recipient."""
