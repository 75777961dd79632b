"""TLS: versions, client certificates, and those who speak something else."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.integration.peer import Peer, encrypted, is_served, trusting
from tests.support.process import CLIENT_NAME, BrokerProcess, Certificates

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import StartBroker


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_served(
    broker: BrokerProcess, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = trusting(certificates)
    context.minimum_version = context.maximum_version = version
    peer = Peer(encrypted(broker.endpoints["tls"], certificates, context))
    assert is_served(peer, f"tls/{version.name}")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_older_tls_is_refused(broker: BrokerProcess, certificates: Certificates) -> None:
    context = trusting(certificates)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        encrypted(broker.endpoints["tls"], certificates, context)


@pytest.mark.parametrize("transport", ["tls", "wss"])
def test_plaintext_to_a_tls_port_is_cut_off(broker: BrokerProcess, transport: str) -> None:
    with Peer(broker.endpoints[transport].open_socket()) as peer:
        peer.sock.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        answer = peer.sock.recv(100)  # a TLS alert, or nothing
        assert answer[:1] in {b"", b"\x15"}


def test_a_client_certificate_names_the_user(
    start_broker: StartBroker, certificates: Certificates
) -> None:
    listener = {"client_ca": certificates.authority, "use_certificate_cn_as_username": True}
    broker = start_broker("tls", listener=listener, settings={"auth": {"allow_anonymous": "never"}})
    context = trusting(certificates, show_certificate=True)
    assert is_served(Peer(encrypted(broker.endpoints["tls"], certificates, context)), "known")
    assert f"user '{CLIENT_NAME}'" in broker.log
    with Peer(encrypted(broker.endpoints["tls"], certificates)) as stranger:
        assert stranger.connect("stranger").reason == 0x87


def test_without_the_certificate_demanded_nobody_gets_in(
    start_broker: StartBroker, certificates: Certificates
) -> None:
    listener = {"client_ca": certificates.authority, "require_client_certificate": True}
    broker = start_broker("tls", listener=listener)
    context = trusting(certificates, show_certificate=True)
    assert is_served(Peer(encrypted(broker.endpoints["tls"], certificates, context)), "known")
    assert is_refused(broker, certificates, trusting(certificates))


def test_a_certificate_of_another_authority_is_refused(
    start_broker: StartBroker, certificates: Certificates, tmp_path: Path
) -> None:
    listener = {"client_ca": certificates.authority, "require_client_certificate": True}
    broker = start_broker("tls", listener=listener)
    foreign = trustme.CA().issue_cert("sensor@example.org", common_name=CLIENT_NAME)
    context = trusting(certificates)
    foreign.configure_cert(context)
    assert is_refused(broker, certificates, context)


def is_refused(broker: BrokerProcess, certificates: Certificates, context: ssl.SSLContext) -> bool:
    """In TLS 1.3 the refusal comes after the client's handshake, with the first read."""
    try:
        with Peer(encrypted(broker.endpoints["tls"], certificates, context)) as peer:
            peer.sock.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            return peer.is_cut_off()
    except (ssl.SSLError, ConnectionError):
        return True


def test_who_does_not_finish_the_handshake_is_cut_off(
    start_broker: StartBroker, certificates: Certificates
) -> None:
    broker = start_broker("tls", settings={"limits": {"connect_timeout": 1}})
    with Peer(broker.endpoints["tls"].open_socket()) as peer:
        peer.sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert peer.sock.recv(100)[:1] in {b"", b"\x15"}


def test_a_bad_certificate_file_is_told(tmp_path: Path) -> None:
    import subprocess

    from tests.support.process import HELIOGRAPH, clean_environment, free_port

    (tmp_path / "bad.pem").write_text("nothing")
    (tmp_path / "conf.toml").write_text(
        f'[[listener]]\nurl = "tls://127.0.0.1:{free_port()}"\n'
        'certificate = "bad.pem"\nkey = "bad.pem"\n'
    )
    command = [*HELIOGRAPH, "run", "-c", str(tmp_path / "conf.toml")]
    tried = subprocess.run(
        command, capture_output=True, text=True, timeout=10, env=clean_environment(), check=False
    )
    assert tried.returncode == 1
    assert "PEM files that belong together" in tried.stderr
    assert "Traceback" not in tried.stderr
