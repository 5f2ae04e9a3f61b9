"""Templates are compiled once: their code is kept beside that of modules, and no code outlives its
source.
"""

import os
import subprocess
import sys

import pytest

KEPT = """
from agent.web.words import compiled_templates
print(len(list(compiled_templates())))
"""
TAKEN = """
from jinja2 import Environment
def compiled(*_): raise AssertionError("it was compiled")
Environment.compile = compiled
from agent.web.words import environment
for language in "fr", "en":
    print(environment(language).get_template("problem.html").name)
"""
ANOTHER = """
from jinja2 import DictLoader, Environment
from agent.web.words import TemplateCode
env = Environment(loader=DictLoader({"problem.html": "another"}), bytecode_cache=TemplateCode())
print(env.get_template("problem.html").render())
"""


@pytest.fixture
def folder(tmp_path):
    """A folder in which the code of all templates is kept."""
    assert int(run(KEPT, tmp_path)) > 40
    return tmp_path


def run(code, folder):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, check=False,
        env=kept | {"PYTHONPYCACHEPREFIX": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_was_compiled_before_is_not_compiled_again(folder):
    assert run(TAKEN, folder).split() == ["problem.html", "problem.html"]


def test_code_of_another_source_is_not_taken(folder):
    assert run(ANOTHER, folder) == "another"


@pytest.mark.parametrize("left", [0, 9, 30, 100, 400])
def test_a_file_that_is_not_whole_costs_time_only(folder, left):
    (file,) = folder.rglob("problem.*.pyc")
    file.write_bytes(file.read_bytes()[:left])
    assert run(KEPT, folder)
    assert run(TAKEN, folder)
