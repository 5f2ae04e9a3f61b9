"""The house towards its recipients: by what right it speaks, what it says, what it obeys."""
