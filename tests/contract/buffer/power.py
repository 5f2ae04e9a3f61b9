"""Power cuts without a rig: a process's file calls, recorded by strace, replayed up to any point.

What was synced is there; of what was not, some 4 KiB pieces are, and some names. Strict where
file systems are kind: a new name lasts only when its folder was synced.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,close,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,"
    "unlink,unlinkat,rename,renameat,renameat2,link,linkat"
)
LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)", re.DOTALL)
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
PIECE = 4096


def record(command, log, cwd, fails=""):
    """Run a command under strace; its calls, in order. `fails`: calls that are answered by an
    error (`inject` of strace).
    """
    inject = ["-e", f"inject={fails}"] if fails else []
    strace = ["strace", "-xx", "-s", "10000000", "-o", log, "-e", f"trace={CALLS}", *inject]
    subprocess.run([*strace, *command], check=True, cwd=cwd, stdout=subprocess.DEVNULL)
    return [call for line in log.read_text().splitlines() if (call := parsed(line))]


def parsed(line):
    found = LINE.match(line)
    if not found:
        return None
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in TEXT.findall(found[2])]
    words = TEXT.sub('""', found[2]).split(", ")
    return found[1], words, texts, int(found[3])


@dataclass
class File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)

    def change(self, op):
        kind, at, body = op
        if kind == "size":
            del self.synced[at:]
        if len(self.synced) < at:
            self.synced.extend(bytes(at - len(self.synced)))
        self.synced[at : at + len(body)] = body

    def write(self, at, body):
        while body:
            size = PIECE - at % PIECE
            self.pending.append(("write", at, body[:size]))
            at, body = at + len(body[:size]), body[size:]

    def sync(self):
        for op in self.pending:
            self.change(op)
        self.pending.clear()

    def not_synced(self):
        """Linux then counts as written what it may not have written: no later fsync writes it."""
        self.pending = [op for at, op in enumerate(self.pending) if at % 2]
        self.sync()


class Disk:
    """What a folder's disk holds after some calls; and what was said on standard output."""

    def __init__(self, folder):
        self.folder = str(folder).encode()
        self.names, self.pending, self.now = {}, [], {}
        self.handles, self.said = {}, []

    def apply(self, call):
        name, words, texts, result = call
        match name:
            case "fsync" | "fdatasync" if result < 0 and int(words[0]) in self.handles:
                self.handles[int(words[0])].not_synced()
            case _ if result < 0:
                pass
            case "openat":
                self._open(texts[0], words[2], result)
            case "close":
                self.handles.pop(int(words[0]), None)
            case "write":
                self._write(words[0], texts[0])
            case "unlink" | "unlinkat":
                self._rename(texts[-1], None)
            case "rename" | "renameat" | "renameat2":
                self._rename(*texts)
            case "link" | "linkat":
                self._name(texts[1], self.now[texts[0]])
            case _ if file := self.handles.get(int(words[0])):
                self._change(file, name, words, texts)

    def _open(self, path, flags, handle):
        self.handles.pop(handle, None)
        if path == self.folder:
            self.handles[handle] = self
        elif path.startswith(self.folder + b"/"):
            if path not in self.now:
                self._name(path, File())
            self.handles[handle] = self.now[path]
            if "O_TRUNC" in flags:
                self.now[path].pending.append(("size", 0, b""))

    def _write(self, handle, text):
        if handle == "1":
            self.said += text.decode().splitlines()
        elif int(handle) in self.handles:
            raise AssertionError("a write without a position is not replayed")

    def _change(self, file, name, words, texts):
        match name:
            case "fsync" | "fdatasync":
                file.sync()
            case "pwrite64":
                file.write(int(words[3]), texts[0])
            case "ftruncate":
                file.pending.append(("size", int(words[1]), b""))
            case "fallocate":
                file.pending.append(("write", int(words[2]) + int(words[3]), b""))

    def _rename(self, old, new):
        if old in self.now:
            if new is not None:
                self._name(new, self.now[old])
            self._name(old, None)

    def _name(self, path, file):
        self.pending.append((path, file))
        named(self.now, path, file)

    def sync(self):
        for path, file in self.pending:
            named(self.names, path, file)
        self.pending.clear()

    def cut(self, dice, into):
        """Write into a folder what a power cut now could leave."""
        names = dict(self.names)
        for path, file in self.pending[: dice.randint(0, len(self.pending))]:
            named(names, path, file)
        luck = dice.choice([0.0, 0.2, 0.5, 0.8, 1.0])
        for path, file in names.items():
            after = File(bytearray(file.synced))
            for op in file.pending:
                if dice.random() < luck:
                    after.change(op)
            (Path(into) / path.decode().rpartition("/")[2]).write_bytes(after.synced)


def named(names, path, file):
    names.pop(path, None)
    if file is not None:
        names[path] = file


def cuts(calls, folder, dice, count, there=()):
    """Disks at random points of a recording, in no order; from the first call on the folder.

    `there`: the files that were in it before, by name.
    """
    within = str(folder).encode()
    begun = next(
        i for i, (_, _, texts, _) in enumerate(calls) if texts and texts[0].startswith(within)
    )
    for _ in range(count):
        disk = Disk(folder)
        for name in there:
            path = f"{folder}/{name}".encode()
            disk.names[path] = disk.now[path] = File(bytearray(there[name]))
        for call in calls[begun : dice.randint(begun, len(calls))]:
            disk.apply(call)
        yield disk
