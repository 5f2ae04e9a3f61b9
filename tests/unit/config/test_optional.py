"""What only some gateways need may lack: the message names the command that installs it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.unit.config.samples import changed

ROOT = Path(__file__).parents[3]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Wm5mEr0V9b2Xk8aQ2V7tZ4d1n6Yc3uHs5Lq8R"
SFTP = changed(
    'transport: mqtt, url: "mqtts://192.168.10.5"',
    f'transport: files, url: "sftp://g@h.ville.example/", key: "env:K", host_key: "{KEY}", '
    "container: none",
    changed("energie.metropole.example", "energie.ville.example"),
)
COMMAND = "sudo apt install --no-install-recommends python3-paramiko"
OPEN = """
from types import SimpleNamespace
from agent.uplink.files.folder import place
place(SimpleNamespace(path=None, url="sftp://g@127.0.0.1:9/", key=object()), None)
"""


@pytest.fixture(scope="module")
def without_paramiko(tmp_path_factory):
    """Run a Python that has all our libraries but this one."""
    libraries = tmp_path_factory.mktemp("libraries")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("paramiko", "__editable__")):
            (libraries / entry.name).symlink_to(entry)
    paths = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(libraries)!r}]\n"

    def run(code, *words, env=None):
        return subprocess.run(
            (sys.executable, "-S", "-c", paths + code, *words),
            capture_output=True, text=True, check=False, timeout=60, env=env,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("language", "said"), [("en", "SFTP needs a package"), ("fr", "SFTP demande un paquet")]
)
def test_check_names_the_package_of_an_uplink_over_sftp(without_paramiko, tmp_path, language, said):
    file = tmp_path / "config.yaml"
    file.write_text(SFTP + f"state: {tmp_path / 'state'}\n")
    code = "from agent.entry import main; main()"
    env = {"LANG": f"{language}.UTF-8", "LANGUAGE": language}
    done = without_paramiko(code, "check", "-c", str(file), env=env)
    assert done.returncode == 1, done.stderr
    assert said in done.stdout + done.stderr
    assert COMMAND in done.stdout + done.stderr


def test_the_uplink_says_it_too_and_tries_again(without_paramiko):
    done = without_paramiko(OPEN)
    assert "UplinkLost: a Debian package that this needs is not installed" in done.stderr
    assert done.stderr.rstrip().endswith(COMMAND)
