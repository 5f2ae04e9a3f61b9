"""Field buses: one folder a driver, all behind the protocols of base.py."""
