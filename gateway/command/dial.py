"""What a client meets at an address: the way in, TLS, the upgrade, the first frame, and the clock of who answers."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from gateway import __version__
from gateway.command import finding
from gateway.command.finding import Finding
from gateway.command.target import Target
from gateway.config import is_loopback

_TIMEOUT_S = 10.0

#: what helps where a certificate is refused, by OpenSSL's number for the reason (X509_V_ERR_...)
_TLS = {
    9: "wait until it is valid, or correct this machine's clock",
    10: "renew it",
    18: "clients trust no certificate that signs itself: take one from an authority",
    19: "clients do not know the authority at the end of its chain",
    20: "serve the whole chain: the file must hold the certificate and then the intermediate ones",
    21: "serve the whole chain: the file must hold the certificate and then the intermediate ones",
    62: "serve a certificate that names this host",
    64: "serve a certificate that names this address",
}


def socket(target: Target, name: str, *, trusts_all: bool = False) -> list[Finding]:
    """Connect as a client would, and return what was found; `trusts_all`: whatever certificate there is."""
    parts = urlsplit(target.socket)
    where = parts.netloc
    context = ssl.create_default_context() if parts.scheme == "wss" else None
    if context is not None and trusts_all:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.perf_counter()
    findings: list[Finding] = []
    try:
        url = f"{target.socket}?protocol=7&client=rawpush-doctor&version={__version__}"
        with connect(url, ssl=context, proxy=None, open_timeout=_TIMEOUT_S, close_timeout=1.0) as connection:
            if isinstance(connection.socket, ssl.SSLSocket) and not trusts_all:
                shown = connection.socket.getpeercert() or {}
                end_s = ssl.cert_time_to_seconds(str(shown["notAfter"]))
                findings.append(finding.certificate((end_s - time.time()) / 86_400, where))
            said = orjson.loads(connection.recv(timeout=_TIMEOUT_S))
        if said.get("event") != "pusher:connection_established":
            remedy = "have the running gateway read the file again, where the app is new or was changed: rawpush reload"
            findings.append(Finding(name, "failed", f"{where} said {orjson.dumps(said).decode()}", remedy))
        elif context is None and not is_loopback(parts.hostname or ""):
            found = f"{where} answers, but without TLS: everything crosses the network in clear"
            findings.append(Finding(name, "warning", found, "dial wss://, with [server] tls or a proxy in front"))
        else:
            findings.append(Finding(name, "ok", f"connected to {where} in {(time.perf_counter() - began) * 1000:.0f} ms"))
    except ssl.SSLCertVerificationError as error:
        remedy = _TLS.get(error.verify_code, "serve a certificate that clients trust")
        findings.append(Finding("certificate", "failed", f"of {where}: {error.verify_message}", remedy))
    except ssl.SSLError as error:
        remedy = "see that TLS is spoken on this port, in version 1.2 or 1.3"
        findings.append(Finding(name, "failed", f"no TLS with {where}: {error.reason or error}", remedy))
    except InvalidStatus as refused:
        findings.append(_refused(name, where, refused.response.status_code))
    except (InvalidHandshake, WebSocketException, ValueError, AttributeError) as error:
        remedy = "see that the port and the path are the gateway's"
        findings.append(Finding(name, "failed", f"what answers at {where} speaks no WebSocket: {error}", remedy))
    except OSError as error:
        found = f"no answer from {where}: {error or 'none in time'}"
        remedy = "see that the name leads here, that firewalls let the port through, and that the gateway runs"
        findings.append(Finding(name, "failed", found, remedy))
    return findings


def _refused(name: str, where: str, status: int) -> Finding:
    if status in (502, 503, 504):
        remedy = "the proxy does not reach the gateway: see its upstream address, and that the gateway runs"
    elif status == 404:
        remedy = "the proxy must pass /app/ on; where it serves a path of its own, that is [server] path_prefix"
    else:
        remedy = "the proxy must pass Upgrade and Connection on, and speak HTTP/1.1 to the gateway"
    return Finding(name, "failed", f"no WebSocket at {where}: it answered with status {status}", remedy)


def clock(url: str, context: ssl.SSLContext | None = None) -> Finding:
    """Compare this machine's clock with the Date header of what answers there."""
    parts = urlsplit(url)
    port = parts.port
    connection = (
        HTTPSConnection(parts.hostname or "", port, timeout=_TIMEOUT_S, context=context)
        if parts.scheme == "https"
        else HTTPConnection(parts.hostname or "", port, timeout=_TIMEOUT_S)
    )
    try:
        connection.request("GET", f"{parts.path}/healthz", headers={"User-Agent": f"rawpush-doctor/{__version__}"})
        date = connection.getresponse().getheader("Date")
        # a Date header has whole seconds, and was made half a second ago on average
        difference_s = parsedate_to_datetime(date or "").timestamp() + 0.5 - time.time()
    except (OSError, HTTPException, ValueError) as error:
        return Finding("clock", "warning", f"not compared: {error}", "put right first what else is wrong with this address")
    finally:
        connection.close()
    return finding.clock(difference_s, parts.netloc)
