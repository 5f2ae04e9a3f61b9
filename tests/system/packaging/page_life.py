"""What people do at the web page of a gateway that runs under systemd; runs inside the machine.

`here` is the module inside.py, with what it knows of the machine.
"""

import hashlib
import http.client
import re
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

UNIT, HELPER = "gardien-web.service", "gardien-edit.socket"
DROP_INS = Path("/run/systemd/system")
PASSWORD = "boiler room, second door"
REASON = "commissioning of the building"


class Browser:
    """A browser without JavaScript: it keeps cookies, and follows no redirect by itself."""

    def __init__(self, address):
        self.address, self.cookies = address, {}
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def send(self, method, path, fields=None, **headers):
        headers |= {"Accept-Language": "en", "Origin": f"https://{self.address}"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPSConnection(self.address, timeout=60, context=self.tls)
        try:
            connection.request(method, path, fields and urlencode(fields), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, value = cookie.partition(";")[0].split("=", 1)
            self.cookies[name] = value.strip('"')
        return answer.status, answer.headers, body

    def get(self, path):
        """The status, where it leads to, and the text."""
        status, headers, body = self.send("GET", path)
        return status, headers.get("Location", ""), body.decode()

    def post(self, path, **fields):
        login = self.cookies.get("__Host-gardien", "")
        token = hashlib.sha256(b"form " + login.encode()).hexdigest()[:32]
        status, headers, body = self.send("POST", path, fields | {"token": token})
        return status, headers.get("Location", ""), text_of(body.decode())


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("<main")[2]).split())


def pid_of(here, unit=UNIT):
    return int(here.sh("systemctl", "show", unit, "-p", "MainPID", "--value").stdout)


def active(here):
    return here.sh("systemctl", "is-active", UNIT, check=False).stdout.strip()


def memory(here):
    """MB of the page's process: now, at its highest, and what of now no file backs."""
    facts = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid_of(here)}/status").read_text().splitlines()
    )
    names = ("VmRSS", "VmHWM", "RssAnon")
    return [round(int(facts[name].split()[0]) / 1024, 1) for name in names]


def entered(here, opened):
    """Log in with the code of the set-up window, and then as a person with a password."""
    browser = Browser(here.PAGE)
    refused = browser.post("/login/code", code="0000-0000", name="Mallory")
    began = browser.post("/login/code", code=opened["code"], name="Marie")
    first, me = memory(here), browser.get("/me")
    invited = here.web("person", "add", "Claire", "--role", "manager").stdout
    (code,) = re.findall(r"(?m)^    ([0-9A-Z-]{9,})$", invited)
    claire = Browser(here.PAGE)
    words = {"code": code, "password": PASSWORD, "again": PASSWORD}
    chosen = claire.post("/login/choose", **words)
    again = [Browser(here.PAGE).post("/login", name="Claire", password=PASSWORD)[0] for _ in "123"]
    wrong = Browser(here.PAGE).post("/login", name="Claire", password="another password")
    return browser, {
        "refused": refused[0],
        "began": began[:2],
        "me": [me[0], "Marie" in me[2]],
        "chosen": chosen[:2],
        "again": again,
        "wrong": [wrong[0], wrong[2]],
        "memory": {"one login": first, "after five passwords": memory(here)},
    }


def changed(here, browser):
    """A device is tried and added: page, agent, root's program, file, reload."""
    before = here.CONFIG.stat()
    entry = {"link": "riser", "address": str(here.METERS + 1), "profile": "eastron-sdm120"}
    tried = browser.post("/visit/search/try", name="cellar", reason=REASON, **entry)
    shown = browser.get("/visit/search/tried")
    here.sh("systemctl", "stop", HELPER)
    absent = browser.post("/visit/search/tried", name="cellar")
    unchanged = "cellar" not in here.CONFIG.read_text()
    here.sh("systemctl", "start", HELPER)
    began = time.monotonic()
    added = browser.post("/visit/search/tried", name="cellar")
    took = time.monotonic() - began
    read = here.until(lambda: here.status()["devices"].get("cellar", {}).get("answered"))
    after = here.CONFIG.stat()
    said = browser.get("/visit/search")
    return {
        "tried": tried[:2],
        "shown": [shown[0], text_of(shown[2])],
        "absent": [absent[0], absent[2], unchanged],
        "added": added[:2],
        "took_s": round(took, 1),
        "said": text_of(said[2]),
        "config": here.CONFIG.read_text(),
        "read": bool(read),
        "same_owner": (before.st_uid, before.st_gid, before.st_mode)
        == (after.st_uid, after.st_gid, after.st_mode),
        "copies": len(list(here.CONFIG.parent.glob("config.yaml.web-*"))),
        "log": here.sh("journalctl", "-t", "gardien-edit", "-o", "cat").stdout,
    }


def helper_sandbox(here):
    """Where root's program can write, by find's word in its place."""
    folder = DROP_INS / "gardien-edit@.service.d"
    folder.mkdir(parents=True)
    where = r"/ ( -path /proc -o -path /sys -o -path /dev ) -prune -o -type d -writable -print"
    (folder / "probe.conf").write_text(
        f"[Service]\nType=oneshot\nExecStart=\nExecStart=-/usr/bin/find {where}\n"
        "StandardInput=null\nStandardOutput=file:/run/probe\nStandardError=null\n"
        "RuntimeMaxSec=infinity\n"
    )
    here.sh("systemctl", "daemon-reload")
    here.sh("systemctl", "start", "gardien-edit@probe.service", check=False)
    writable = Path("/run/probe").read_text().split()[:20]
    shutil.rmtree(folder)
    here.sh("systemctl", "daemon-reload")
    score = here.sh("systemd-analyze", "security", "gardien-edit@probe.service").stdout
    return {"writable": writable, "score": score.splitlines()[-1]}


def handed_over(here, browser):
    """The report by the page's program, its PDF, the support bundle, and the numbers."""
    page = pid_of(here)
    made = browser.post("/visit/report", readings="", reason=REASON)
    here.until(lambda: "/visit/report/page" in browser.get("/visit/report")[2], every=0.3)
    watcher = subprocess.Popen(
        ("python3", "-c", WATCH, str(page)), stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    report = browser.get("/visit/report/page")
    watcher.terminate()
    peak = watcher.communicate()[0].split()
    pdf = browser.get("/visit/report/pdf")
    browser.post("/support/bundle")
    here.until(lambda: 'href="/support/bundle"' in browser.get("/support")[2], every=0.3)
    bundle = browser.send("GET", "/support/bundle")
    token = here.web("token", "prometheus").stdout.strip()
    numbers = [
        Browser(here.PAGE).send("GET", "/metrics", Authorization=f"Bearer {one}")
        for one in (token, "another")
    ]
    return {
        "made": made[:2],
        "report": [report[0], here.NAMED in report[2]],
        "pdf": [pdf[0], text_of(pdf[2])],
        "bundle": [bundle[0], len(bundle[2]), bundle[2][:2].hex()],
        "numbers": [[one[0], one[2][:20_000].decode()] for one in numbers],
        "report_peak_MB": max(map(float, peak), default=0.0),
        "memory": memory(here),
    }


WATCH = """
import sys, time
from pathlib import Path
while True:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if facts["PPid"].strip() == sys.argv[1] and "VmHWM" in facts:
            print(int(facts["VmHWM"].split()[0]) / 1024, flush=True)
    time.sleep(0.01)
"""


def upgraded(here, browser):
    """Both packages are installed anew while a person is logged in."""
    page, daemon = pid_of(here), pid_of(here, "gardien.service")
    debs = [f"/opt/test/{name}.deb" for name in ("new", "web")]
    here.sh("apt-get", "install", "-y", "--reinstall", "--no-install-recommends", *debs)
    here.until(here.status)
    answer = browser.get("/")
    return {
        "answer": answer[:2],
        "new_page": pid_of(here) not in {page, 0},
        "new_daemon": pid_of(here, "gardien.service") not in {daemon, 0},
        "listens": here.PAGE in here.listens(),
        "helper": here.sh("systemctl", "is-active", HELPER, check=False).stdout.strip(),
    }


def idle(here):
    """Nobody uses it: it exits, and the next connection starts it again."""
    folder = DROP_INS / f"{UNIT}.d"
    folder.mkdir(parents=True)
    quickly = "[Service]\nExecStart=\nExecStart=/usr/bin/gardien-web --unused 1\n"
    (folder / "quick.conf").write_text(quickly)
    here.sh("systemctl", "daemon-reload")
    here.sh("systemctl", "stop", UNIT)
    began = time.monotonic()
    Browser(here.PAGE).get("/login")
    cold = time.monotonic() - began
    here.until(lambda: active(here) == "inactive", within=20)
    result = here.sh("systemctl", "show", UNIT, "-p", "Result", "--value").stdout.strip()
    again = Browser(here.PAGE).get("/login")[0]
    shutil.rmtree(folder)
    here.sh("systemctl", "daemon-reload")
    here.sh("systemctl", "stop", UNIT)
    return {"result": result, "again": again, "cold_s": round(cold, 2)}


def closed_while_used(here):
    """Closed while somebody is logged in: nothing answers, and the login has ended."""
    code = here.json.loads(here.web("open", "--json").stdout)["code"]
    browser = Browser(here.PAGE)
    browser.post("/login/code", code=code, name="Marie")
    logged_in = browser.get("/me")[0]
    here.web("close")
    try:
        browser.get("/me")
        refused = False
    except ConnectionRefusedError:
        refused = True
    process, helper = active(here), Path("/run/gardien-edit.sock").exists()
    here.web("open", "--no-setup")
    again = browser.get("/me")[:2]
    here.web("close")
    return {
        "logged_in": logged_in,
        "refused": refused,
        "process": process,
        "helper": helper,
        "again": again,
    }


def used(here):
    """The page is opened, used, upgraded, left alone, and closed. The configuration is as before at
    the end."""
    config, began = here.CONFIG.read_text(), f"@{time.time():.0f}"
    opened = here.json.loads(here.web("open", "--listen", here.PAGE, "--json").stdout)
    browser, found = entered(here, opened)
    try:
        found["change"] = changed(here, browser)
        found["helper"] = helper_sandbox(here)
        found["handed_over"] = handed_over(here, browser)
        found["upgrade"] = upgraded(here, browser)
        found["idle"] = idle(here)
        found["closed"] = closed_while_used(here)
        found["page_log"] = here.sh(
            "journalctl", "-u", UNIT, "-p", "warning", "-o", "cat", "--since", began
        ).stdout
    finally:
        here.web("close", check=False)
        here.CONFIG.write_text(config)
        here.sh("gardien", "reload", check=False)
    return found
