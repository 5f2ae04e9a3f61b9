"""What is in the package and what it stands on, as CycloneDX 1.6: python3 packaging/sbom.py DEB.

The same package gives the same document: time and serial number come from the commit and its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from depends import debian, project, vendored

DISTRO = "distro=debian-13"


def _inside(name: str, version: str, sha256: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "scope": "required",
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [{"name": "gardien:where", "value": "vendored in the package"}],
    }


def _beside(name: str, bound: str, scope: str = "required") -> dict[str, Any]:
    found = {
        "type": "library",
        "bom-ref": f"pkg:deb/debian/{name}",
        "name": name,
        "purl": f"pkg:deb/debian/{name}?{DISTRO}",
        "scope": scope,
        "properties": [{"name": "gardien:where", "value": "from Debian, with Debian's updates"}],
    }
    if bound:
        found["properties"].append({"name": "gardien:at-least", "value": bound})
    return found


def bom(deb: Path) -> dict[str, Any]:
    """The document."""
    told = project()
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    package = deb.name.partition("_")[0]
    extra = package.partition("-")[2]
    inside = {} if extra else vendored()
    parts = [_inside(name, *rest) for name, rest in sorted(inside.items())]
    parts += [_beside(name, bound) for name, bound in debian(extra).items()]
    if not extra:
        parts += [_beside(name, bound, "optional") for name, bound in debian("sftp").items()]
    if package != "gardien-web":
        parts.append(_beside("openssl", ""))
    ref = f"pkg:deb/{package}@{told['version']}?arch=all&{DISTRO}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, sha256)}",
        "version": 1,
        "metadata": {
            "timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": ref,
                "name": package,
                "version": told["version"],
                "purl": ref,
                "licenses": [{"license": {"id": told["license"]}}],
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            },
        },
        "components": parts,
        "dependencies": [{"ref": ref, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


if __name__ == "__main__":
    print(json.dumps(bom(Path(sys.argv[1])), indent=2))
