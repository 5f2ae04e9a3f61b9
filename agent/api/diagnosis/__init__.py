"""The diagnosis: the checks behind `status`, `doctor`, `check` and the status for platforms."""
