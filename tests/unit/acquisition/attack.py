"""What somebody can reckon who keeps all that one recipient was sent: linear algebra, mod p."""

PRIME = (1 << 61) - 1


class Reckoner:
    """Knows sums of unknowns, and says which others follow from them."""

    def __init__(self):
        self._rows = {}

    def learn(self, unknowns):
        """The sum of these unknowns is known."""
        left = self._reduced(dict.fromkeys(unknowns, 1))
        if left:
            pivot = min(left)
            inverse = pow(left[pivot], -1, PRIME)
            self._rows[pivot] = {key: value * inverse % PRIME for key, value in left.items()}

    def knows(self, unknowns):
        """Whether the sum of these unknowns follows from what is known."""
        return not self._reduced(dict.fromkeys(unknowns, 1))

    def _reduced(self, row):
        done = {}
        while row:
            pivot = min(row)
            times = row.pop(pivot)
            if pivot not in self._rows:
                done[pivot] = times
                continue
            for key, value in self._rows[pivot].items():
                if key != pivot:
                    row[key] = (row.get(key, 0) - times * value) % PRIME
                    if not row[key]:
                        del row[key]
        return done
