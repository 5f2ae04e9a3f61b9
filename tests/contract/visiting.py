"""Steps of visitors at the door that need what earlier answers gave."""

import json
import re


def filled(step: dict, found: list) -> dict:
    """A step with what earlier answers gave."""

    def given(match: re.Match) -> str:
        return found[int(match[1])]["result"][match[2]]

    return json.loads(re.sub(r"\$(\d+)\.(\w+)", given, json.dumps(step)))
