//! TLS between the client and our target, with every kind of trust.

use anyhow::{Result, ensure};
use nbd_client::{Client, ConnectOptions, Kind, Uri, runtime};
use tests::certificates::Certificates;
use tests::scratch::random;
use tests::{Launch, MIB, Scratch, Target};

fn secure(scratch: &Scratch) -> Result<(Target, Certificates)> {
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let target = Launch::new(scratch).volume("disk=memory,size=64M").tls("require", &certificates).start()?;
    Ok((target, certificates))
}

fn uri(target: &Target, certificates: &Certificates, more: &str) -> String {
    let folder = certificates.folder().display();
    format!("nbds://{}/disk?tls-certificates={folder}{more}", target.address())
}

/// The kind and text of the error with which connecting fails.
fn refused(uri: &str) -> Result<(Kind, String)> {
    let uri: Uri = uri.parse()?;
    match runtime::block_on(Client::connect(&uri, &ConnectOptions::default())) {
        Ok(_) => anyhow::bail!("{uri} was let in"),
        Err(error) => Ok((error.kind(), error.to_string())),
    }
}

#[test]
fn many_requests_and_long_ones_go_through_tls() -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, certificates) = secure(&scratch)?;
    let uri: Uri = uri(&target, &certificates, "").parse()?;
    runtime::block_on(async {
        let options = ConnectOptions { connections: 2, ..ConnectOptions::default() };
        let client = Client::connect(&uri, &options).await?;
        ensure!(client.export().tls);
        let tasks: Vec<_> = (0..30)
            .map(|part: u64| {
                let client = client.clone();
                runtime::spawn(async move {
                    let length = [4096, 100 << 10, MIB as usize][part as usize % 3];
                    let (result, written) = client.write(part * MIB, random(part, length), false).await;
                    result?;
                    let (result, read) = client.read(part * MIB, vec![0; length]).await;
                    result?;
                    ensure!(read == written, "part {part}");
                    Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, anyhow::Error>(client.disconnect().await?)
    })?;
    target.stop()?;
    Ok(())
}

#[test]
fn who_is_not_trusted_is_told_and_why() -> Result<()> {
    let scratch = Scratch::new()?;
    let (target, certificates) = secure(&scratch)?;
    let foreign = Certificates::make(&scratch.join("foreign"))?;
    let (kind, text) = refused(&uri(&target, &foreign, ""))?;
    ensure!(kind == Kind::Tls && text.contains("signed by the ca-cert.pem"), "{text}");
    let (kind, text) = refused(&uri(&target, &certificates, "&tls-hostname=elsewhere"))?;
    ensure!(kind == Kind::Tls && text.contains("tls-hostname"), "{text}");
    let (kind, text) = refused(&uri(&target, &foreign, "&tls-verify-peer=0"))?;
    ensure!(kind == Kind::Tls && text.contains("client-cert.pem"), "{text}");
    let (kind, text) = refused(&target.uri("disk"))?;
    ensure!(kind == Kind::Tls && text.contains("write nbds://"), "{text}");
    let (kind, text) = refused(&format!("nbds://{}/disk?tls-certificates=/nowhere", target.address()))?;
    ensure!(kind == Kind::Tls && text.contains("/nowhere/ca-cert.pem"), "{text}");
    target.stop()?;
    Ok(())
}

#[test]
fn the_client_needs_no_certificate_to_trust_nobody_in_particular() -> Result<()> {
    let scratch = Scratch::new()?;
    let certificates = Certificates::make(&scratch.join("certificates"))?;
    let file = |name| certificates.file(name).display().to_string();
    let target = Launch::new(&scratch)
        .volume("disk=memory,size=64M")
        .nbd_setting("tls = \"require\"")
        .nbd_setting(&format!("tls_certificate = {:?}", file("server-cert.pem")))
        .nbd_setting(&format!("tls_key = {:?}", file("server-key.pem")))
        .start()?;
    let uri: Uri = format!("nbds://{}/disk?tls-verify-peer=0", target.address()).parse()?;
    runtime::block_on(async {
        let client = Client::connect(&uri, &ConnectOptions::default()).await?;
        client.write(0, vec![1; 4096], true).await.0?;
        client.disconnect().await
    })?;
    target.stop()?;
    Ok(())
}
