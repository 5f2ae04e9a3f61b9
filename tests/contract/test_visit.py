"""Commands where no daemon runs: they open what they use, and say what they have found so far."""

import socketserver
import threading

import pytest

from hil.process import free_port
from tests.command import gardien

CONFIG = """\
building: {{name: Test}}
links:
  hall: {{driver: modbus-tcp, host: 127.0.0.1, port: {hall}, timeout: 2s}}
  cellar: {{driver: modbus-tcp, host: 127.0.0.1, port: {cellar}}}
  attic: {{driver: modbus-tcp, host: 127.0.0.1, port: {nobody}}}
devices:
  m-1: {{link: hall, address: 1, profile: eastron-sdm120}}
  m-2: {{link: cellar, address: 1, profile: eastron-sdm120}}
uplinks:
  centre: {{recipient: centre.example, transport: mqtt, url: "mqtt://127.0.0.1:9"}}
clock: {{source: system}}
state: {state}
"""


class Host(socketserver.ThreadingTCPServer):
    """At unit 1 is a device that refuses every question; at another unit's it hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        self.visits = 0
        super().__init__(("127.0.0.1", 0), Visit)


class Visit(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.visits += 1
        while (asked := self.request.recv(260)) and asked[6] == 1:
            self.request.sendall(asked[:4] + bytes([0, 3, 1, asked[7] | 0x80, 1]))


@pytest.fixture
def hosts():
    both = [Host(), Host()]
    for one in both:
        threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
    yield both
    for one in both:
        one.shutdown()
        one.server_close()


@pytest.fixture
def config(tmp_path, hosts):
    hall, cellar = (one.server_address[1] for one in hosts)
    state = tmp_path / "state"
    state.mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(hall=hall, cellar=cellar, nobody=free_port(), state=state))
    return path


def test_only_the_line_in_question_is_opened_and_why_it_cannot_is_said_once(config, hosts, caplog):
    answer = gardien("read", "m-1", "-c", config)
    assert "bad: illegal function" in answer.output
    assert [one.visits for one in hosts] == [1, 0]
    gone = gardien("scan", "attic", "-c", config)
    assert "attic is not open: " in str(gone.exception)
    assert "gardien doctor" in str(gone.exception)
    assert [one.visits for one in hosts] == [1, 0]
    assert not [one for one in caplog.records if "trying again" in one.getMessage()]


def test_what_a_search_found_is_shown_where_it_cannot_be_brought_to_its_end(config):
    answer = gardien("scan", "hall", "--last", 3, "-c", config)
    assert "closed the connection" in str(answer.exception)
    assert "! the search was interrupted" in answer.output
    assert "1 device found, 0 of them not configured yet" in answer.output
    assert "What was odd:" not in answer.output
    assert "left out that is usual in a search" in answer.output
    answer = gardien("scan", "hall", "--last", 3, "--all", "-c", config)
    assert "closed the connection" in str(answer.exception)
    assert "What was odd:" in answer.output
    assert "- m-1: " in answer.output
    config.write_text(config.read_text().replace("address: 1,", "address: 9,"))
    answer = gardien("scan", "hall", "--last", 3, "-c", config)
    assert "# modbus-1: {link: hall, address: 1}" in answer.output


def test_a_meter_that_nobody_has_asked_yet_is_not_said_to_be_nobodys(config):
    sheet = config.with_name("sheet.csv")
    sheet.write_text("label;type\nA-1;dwelling\n")
    assert not gardien("place", "import", sheet, "--as", "marie", "-c", config).exit_code
    sheet.write_text("serial;dwelling\n777;A-1\n")
    words = ("meter", "import", sheet, "--offline", "--as", "marie")
    assert not gardien(*words, "-c", config).exit_code
    said = gardien("privacy", "explain", "-c", config).output
    assert "? (m-1, m-2): not sent, its serial number is not known yet" in said
    said = gardien("privacy", "explain", "A-1", "-c", config).output
    assert "no reading is assigned to A-1" in said
