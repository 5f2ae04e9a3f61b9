"""The pretend building, the pretend platform and the faults between them."""
