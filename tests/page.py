"""The web page as a process, for tests: its certificate, its address, and a browser-like client."""

import asyncio
import datetime as dt
import re
import signal
import ssl
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = re.compile(r'name="token" value="([0-9a-f]*)"')


def write_certificate(folder):
    """A key and a certificate for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def trusting():
    """TLS that asks no questions: the tests know whom they talk to."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Page:
    """A running page."""

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = f"https://127.0.0.1:{port}"

    @property
    def memory(self):
        """Bytes that it holds in memory (RSS)."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]) * 4096


@asynccontextmanager
async def running_page(folder, state, *more):
    """Start the page for the agent with this state; at the end it is ended, and must have lived."""
    write_certificate(folder / "tls")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.web.run", "--state", str(state), "--tls", str(folder / "tls"),
        "--listen", "127.0.0.1:0", *more, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while not (
                at := re.search(rb"https://127\.0\.0\.1:(\d+)", await process.stderr.readline())
            ):
                assert process.returncode is None, "the page ended"
        yield Page(process, int(at[1]))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        process.stderr._transport.close()
        async with asyncio.timeout(30):
            await process.wait()


def browser(page, **more):
    """A client that keeps cookies, as browsers do."""
    return aiohttp.ClientSession(
        page.url,
        connector=aiohttp.TCPConnector(ssl=trusting(), limit=8),
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        headers={"Accept-Language": "en", **more},
    )


async def submit(session, path, _form="", **fields):
    """Send the form of a page, with its token; returns the text of the answer and its status."""
    async with session.get(_form or path) as shown:
        token = TOKEN.search(await shown.text())
    data = {"token": token[1] if token else "", **fields}
    async with session.post(
        path, data=data, headers={"Origin": str(session._base_url)[:-1]}
    ) as answer:
        return answer.status, str(answer.url.path), await answer.text()
