"""The facts that people state, one file for each: the fields of its commands and of its sheet.

The options of the commands (agent/cli), the arguments of the calls (agent/api/facts.py) and
the headings of the sheets follow from these declarations. A fact imports little, since every
command line imports it.
"""
