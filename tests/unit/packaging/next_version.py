"""A version of gardien that does not exist yet: its spool has a format more.

What a developer of that version would write, put into a copy of today's code.
"""


def next_format(schema):
    """Give the text of `agent/buffer/schema.py` as the next version may have it."""
    with_step = """STEPS = {
    2: ("ALTER TABLE batch ADD COLUMN carrier TEXT NOT NULL DEFAULT 'unknown'",),
"""
    changed = schema.replace("FORMAT = 2\n", "FORMAT = 3\n", 1).replace("STEPS = {\n", with_step, 1)
    assert changed.count("carrier") == 1
    assert "FORMAT = 3" in changed
    return changed
