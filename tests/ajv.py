"""Ajv (JavaScript, strict) as an independent reader of the published schemas."""

import json
import os
import subprocess

PROGRAM = """
const Ajv = require("ajv/dist/2020").default;
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const ajv = new Ajv({strict: true, ...asked.options});
for (const name of asked.formats) ajv.addFormat(name, true);
ajv.addSchema(asked.schema, "it");
const verdicts = asked.cases.map(([part, text]) => ajv.getSchema("it" + part)(JSON.parse(text)));
console.log(JSON.stringify(verdicts));
"""


def verdicts(schema: dict, cases: list[tuple[str, str]], formats=(), **options) -> list[bool]:
    """For each (part of the schema such as `#/$defs/x`, text of JSON), whether it is valid.

    AssertionError if the schema breaks a rule of Ajv's strict mode.
    """
    asked = {"schema": schema, "cases": cases, "formats": list(formats), "options": options}
    done = subprocess.run(
        ("node", "-e", PROGRAM), input=json.dumps(asked), capture_output=True, text=True,
        env=os.environ | {"NODE_PATH": "/usr/share/nodejs"}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
