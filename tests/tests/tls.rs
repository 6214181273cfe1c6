//! STARTTLS: both versions, client certificates, and what is refused.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tests::certificates::Certificates;
use tests::nbd::{Client, OPT_GO, OPT_STARTTLS, REP_ACK, name_payload};
use tests::skip::lacks;
use tests::target::Target;
use tests::tool::{nbdsh, nbdsh_after};
use tests::{Launch, Scratch, Tool};

const ROUND_TRIP: &str = "
assert h.get_tls_negotiated()
import random
data = random.Random(5).randbytes(5 << 20)
h.pwrite(data, 12345 * 512)
h.flush()
assert h.pread(len(data), 12345 * 512) == data";

#[test]
fn a_client_with_its_certificate_reads_and_writes() -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    nbdsh_after(LOCAL_FILES, &uri(&target, certificates.folder()), ROUND_TRIP).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn qemu_attaches_over_tls() -> Result<()> {
    if lacks(&["qemu-img"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    let credentials = format!("tls-creds-x509,id=t,endpoint=client,dir={}", certificates.folder().display());
    let port = target.address().port();
    let image =
        format!("driver=nbd,host=127.0.0.1,port={port},export=disk,tls-creds=t,tls-hostname=localhost");
    let info = Tool::new("qemu-img").args(["info", "--object", &credentials, "--image-opts", &image]).ok()?;
    assert!(info.contains("64 MiB"), "{info}");
    target.stop()?;
    Ok(())
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    for (without, spoken) in
        [(&["1.3", "1.1", "1.0"][..], true), (&["1.2", "1.1", "1.0"], true), (&["1.3", "1.2"], false)]
    {
        let script = format!(
            "
import os
h.set_uri_allow_local_file(True)
h.set_tls(nbd.TLS_REQUIRE)
h.set_tls_certificates({:?})
h.set_export_name('disk')
h.connect_tcp('127.0.0.1', '{}')
{ROUND_TRIP}",
            certificates.folder().display().to_string(),
            target.address().port(),
        );
        let lines: String =
            without.iter().map(|version| format!("disabled-version = tls{version}\n")).collect();
        let settings = scratch.text("gnutls", &format!("[overrides]\n{lines}"))?;
        let environment = [format!("GNUTLS_SYSTEM_PRIORITY_FILE={}", settings.display())];
        let tool = Tool::new("env").args(environment).args(["nbdsh", "-c", &script]);
        if spoken {
            tool.ok()?
        } else {
            tool.fails()?
        };
    }
    target.stop()?;
    Ok(())
}

#[test]
fn a_client_without_certificate_is_refused() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    let certificates = certificates.without_client()?;
    nbdsh_after(LOCAL_FILES, &uri(&target, certificates.folder()), "h.pread(512, 0)").fails()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_client_of_another_authority_is_refused() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    let foreign = Certificates::make(&scratch.join("foreign"))?;
    // it trusts the server, so that only the server can refuse
    std::fs::copy(certificates.file("ca-cert.pem"), foreign.file("ca-cert.pem"))?;
    nbdsh_after(LOCAL_FILES, &uri(&target, foreign.folder()), "h.pread(512, 0)").fails()?;
    target.stop()?;
    Ok(())
}

#[test]
fn a_server_without_client_authority_asks_for_no_certificate() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let file = |name| certificates.file(name).display().to_string();
    let target = Launch::new(&scratch)
        .volume("disk=memory,size=64M")
        .nbd_setting("tls = \"require\"")
        .nbd_setting(&format!("tls_certificate = {:?}", file("server-cert.pem")))
        .nbd_setting(&format!("tls_key = {:?}", file("server-key.pem")))
        .start()?;
    let certificates = certificates.without_client()?;
    nbdsh_after(LOCAL_FILES, &uri(&target, certificates.folder()), ROUND_TRIP).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn plain_clients_are_refused_where_tls_is_required() -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, _certificates) = require(&scratch)?;
    let mut client = Client::greet(target.address())?;
    client.option(OPT_GO, &name_payload("disk"))?;
    const REP_ERR_TLS_REQD: u32 = 1 << 31 | 5;
    assert_eq!(client.option_reply(OPT_GO)?.kind, REP_ERR_TLS_REQD);
    client.option(OPT_STARTTLS, &[])?;
    assert_eq!(
        client.option_reply(OPT_STARTTLS)?.kind,
        REP_ACK,
        "after the refusal the client may still start TLS"
    );
    target.stop()?;
    Ok(())
}

#[test]
fn plain_and_tls_clients_share_a_volume_where_tls_is_allowed() -> Result<()> {
    if lacks(&["nbdsh"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let target = Launch::new(&scratch).volume("disk=memory,size=64M").tls("allow", &certificates).start()?;
    nbdsh(&target.uri("disk"), "h.pwrite(b'plain' * 1024, 0)").ok()?;
    let read = "assert h.get_tls_negotiated() and h.pread(5120, 0) == b'plain' * 1024";
    nbdsh_after(LOCAL_FILES, &uri(&target, certificates.folder()), read).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn nbdcopy_over_tls_keeps_every_byte() -> Result<()> {
    if lacks(&["nbdcopy"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    let source = scratch.image("source", 64 << 20, 9)?;
    let copy = scratch.join("copy");
    let uri = uri(&target, certificates.folder());
    Tool::new("nbdcopy").args(["--connections=4", "--requests=32"]).arg(&source).arg(&uri).ok()?;
    Tool::new("nbdcopy").args(["--connections=4", "--requests=32"]).arg(&uri).arg(&copy).ok()?;
    Tool::new("cmp").args([&source, &copy]).ok()?;
    target.stop()?;
    Ok(())
}

#[test]
fn garbage_instead_of_a_tls_hello_ends_the_connection() -> Result<()> {
    let scratch = Scratch::new()?;
    let (mut target, _certificates) = require(&scratch)?;
    let mut client = Client::greet(target.address())?;
    client.option(OPT_STARTTLS, &[])?;
    assert_eq!(client.option_reply(OPT_STARTTLS)?.kind, REP_ACK);
    client.send(&tests::scratch::random(3, 1000))?;
    client.ended()?;
    target.assert_alive()?;
    target.stop()?;
    Ok(())
}

const LOCAL_FILES: &str = "h.set_uri_allow_local_file(True)";

fn require(scratch: &Scratch) -> Result<(Target, Certificates)> {
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let target = Launch::new(scratch).volume("disk=memory,size=64M").tls("require", &certificates).start()?;
    Ok((target, certificates))
}

fn uri(target: &Target, certificates: &Path) -> String {
    format!("nbds://{}/disk?tls-certificates={}", target.address(), certificates.display())
}

#[test]
fn bytes_after_the_end_of_tls_end_the_connection_and_stop_nobody_else() -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, certificates) = require(&scratch)?;
    let mut client = Client::greet(target.address())?;
    client.option(OPT_STARTTLS, &[])?;
    assert_eq!(client.option_reply(OPT_STARTTLS)?.kind, REP_ACK);
    let mut tls = tls_client(&certificates)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut client.stream())?;
    }
    tls.send_close_notify();
    let mut last = Vec::new();
    tls.write_tls(&mut last)?;
    last.resize(last.len() + (64 << 10), 0);
    client.send(&last)?;
    client.ended()?;
    Client::greet(target.address())?;
    target.stop()?;
    Ok(())
}

fn tls_client(certificates: &Certificates) -> Result<ClientConnection> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.file("ca-cert.pem"))?)?;
    let chain = vec![CertificateDer::from_pem_file(certificates.file("client-cert.pem"))?];
    let key = PrivateKeyDer::from_pem_file(certificates.file("client-key.pem"))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
    Ok(ClientConnection::new(Arc::new(config), "localhost".try_into()?)?)
}
