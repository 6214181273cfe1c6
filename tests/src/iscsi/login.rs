//! Logging in (RFC 7143, §6.3, §11.12): as an initiator should, or with one thing wrong.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use md5::{Digest, Md5};

use super::{Client, INITIATOR, Pdu, pdu, request, response};

/// Security negotiation, operational negotiation, full feature phase.
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
const TRANSIT: u8 = 0x80;
/// A challenge of our own, where the target must prove itself.
const CHALLENGE: [u8; 16] = *b"a test's own one";
const CHALLENGE_ID: u8 = 77;

/// What a login says.
#[derive(Clone)]
pub struct Login {
    initiator: String,
    target: Option<String>,
    isid: u32,
    tsih: u16,
    chap: Option<(String, String)>,
    mutual: Option<(String, String)>,
    keys: Vec<(String, String)>,
}

/// The status of a login that was refused (§11.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 2: the initiator's fault, 3: the target's.
    pub class: u8,
    /// What it is.
    pub detail: u8,
}

/// A session, or why there is none.
pub type Outcome = Result<Client, Refusal>;

impl Login {
    /// To a target, without authentication.
    pub fn to(target: &str) -> Login {
        Login {
            initiator: INITIATOR.to_owned(),
            target: Some(target.to_owned()),
            isid: 1,
            tsih: 0,
            chap: None,
            mutual: None,
            keys: Vec::new(),
        }
    }

    /// For discovery.
    pub fn discovery() -> Login {
        Login { target: None, ..Login::to("") }
    }

    /// As this initiator.
    pub fn initiator(self, name: &str) -> Login {
        Login { initiator: name.to_owned(), ..self }
    }

    /// With this qualifier in its ISID: logins of one initiator with the same ISID are the same session.
    pub fn isid(self, isid: u32) -> Login {
        Login { isid, ..self }
    }

    /// To a session that exists.
    pub fn tsih(self, tsih: u16) -> Login {
        Login { tsih, ..self }
    }

    /// Proves itself by CHAP.
    pub fn chap(self, user: &str, secret: &str) -> Login {
        Login { chap: Some((user.to_owned(), secret.to_owned())), ..self }
    }

    /// Wants the target to prove itself, too.
    pub fn mutual(self, user: &str, secret: &str) -> Login {
        Login { mutual: Some((user.to_owned(), secret.to_owned())), ..self }
    }

    /// Offers a key in operational negotiation.
    pub fn key(mut self, key: &str, value: &str) -> Login {
        self.keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With both digests.
    pub fn digests(self) -> Login {
        self.key("HeaderDigest", "CRC32C").key("DataDigest", "CRC32C")
    }

    /// Logs in; an error when refused.
    pub fn session(&self, address: SocketAddr) -> Result<Client> {
        match self.attempt(address)? {
            Ok(client) => Ok(client),
            Err(refusal) => bail!("the login was refused: {refusal:?}"),
        }
    }

    /// Logs in, and takes the unit attention that every new session finds.
    pub fn attach(&self, address: SocketAddr) -> Result<Client> {
        let mut client = self.session(address)?;
        client.await_ready()?;
        Ok(client)
    }

    /// Tries to log in.
    pub fn attempt(&self, address: SocketAddr) -> Result<Outcome> {
        let mut client = Client::connect(address)?;
        match self.negotiate(&mut client)? {
            Some(refusal) => {
                client.ended().context("after a refused login")?;
                Ok(Err(refusal))
            }
            None => Ok(Ok(client)),
        }
    }

    /// Logs in on a connection.
    pub fn negotiate(&self, client: &mut Client) -> Result<Option<Refusal>> {
        if self.chap.is_some()
            && let Some(refusal) = self.prove(client)?
        {
            return Ok(Some(refusal));
        }
        let names = if self.chap.is_some() { Vec::new() } else { self.names() };
        let answer =
            self.exchange(client, OPERATIONAL, Some(FULL_FEATURE), [names, self.operational()].concat())?;
        let answer = match answer {
            Err(refusal) => return Ok(Some(refusal)),
            Ok(answer) => answer,
        };
        ensure!(answer.header[1] & 0x83 == TRANSIT | FULL_FEATURE, "no full feature phase: {answer:?}");
        client.tsih = u16::from_be_bytes([answer.header[14], answer.header[15]]);
        client.header_digest = client.key("HeaderDigest") == Some("CRC32C");
        client.data_digest = client.key("DataDigest") == Some("CRC32C");
        Ok(None)
    }

    /// The security phase, with CHAP and MD5 (RFC 1994).
    fn prove(&self, client: &mut Client) -> Result<Option<Refusal>> {
        let (user, secret) = self.chap.as_ref().context("CHAP was asked for")?;
        let first = [self.names(), owned(&[("AuthMethod", "CHAP")])].concat();
        for keys in [first, owned(&[("CHAP_A", "5")])] {
            if let Err(refusal) = self.exchange(client, SECURITY, None, keys)? {
                return Ok(Some(refusal));
            }
        }
        let id: u8 = client.key("CHAP_I").context("CHAP_I")?.parse()?;
        let challenge = from_hex(client.key("CHAP_C").context("CHAP_C")?)?;
        let proof = digest(id, secret, &challenge);
        let mut keys = owned(&[("CHAP_N", user), ("CHAP_R", &to_hex(&proof))]);
        if self.mutual.is_some() {
            keys.extend(owned(&[("CHAP_I", &CHALLENGE_ID.to_string()), ("CHAP_C", &to_hex(&CHALLENGE))]));
        }
        if let Err(refusal) = self.exchange(client, SECURITY, Some(OPERATIONAL), keys)? {
            return Ok(Some(refusal));
        }
        if let Some((user, secret)) = &self.mutual {
            ensure!(client.key("CHAP_N") == Some(user), "the target calls itself {:?}", client.key("CHAP_N"));
            let proof = from_hex(client.key("CHAP_R").context("the target's CHAP_R")?)?;
            ensure!(proof == digest(CHALLENGE_ID, secret, &CHALLENGE), "the target's proof is wrong");
        }
        Ok(None)
    }

    fn names(&self) -> Vec<(String, String)> {
        let mut names = owned(&[("InitiatorName", &self.initiator)]);
        match &self.target {
            Some(target) => names.extend(owned(&[("SessionType", "Normal"), ("TargetName", target)])),
            None => names.extend(owned(&[("SessionType", "Discovery")])),
        }
        names
    }

    /// Its keys, and of the usual ones those that it does not name.
    fn operational(&self) -> Vec<(String, String)> {
        let usual = [
            ("HeaderDigest", "None"),
            ("DataDigest", "None"),
            ("InitialR2T", "Yes"),
            ("ImmediateData", "Yes"),
            ("MaxRecvDataSegmentLength", "262144"),
            ("MaxBurstLength", "262144"),
            ("FirstBurstLength", "65536"),
            ("MaxOutstandingR2T", "1"),
        ];
        let is_said = |key: &str| self.keys.iter().any(|(said, _)| said == key);
        let fits = |key: &str| self.target.is_some() || key.ends_with("Digest") || key.starts_with("MaxRecv");
        let mut keys: Vec<_> =
            owned(&usual).into_iter().filter(|(key, _)| !is_said(key) && fits(key)).collect();
        keys.extend(self.keys.iter().cloned());
        keys
    }

    /// Sends keys and collects the answers of one login request.
    fn exchange(
        &self,
        client: &mut Client,
        stage: u8,
        next: Option<u8>,
        keys: Vec<(String, String)>,
    ) -> Result<Result<Pdu, Refusal>> {
        let flags = stage << 2 | next.map_or(0, |next| TRANSIT | next);
        let request = self.request(client, flags).data(pdu::pairs(&keys));
        client.send(&request)?;
        let answer = client.receive().context("a login response")?;
        ensure!(answer.opcode() == response::LOGIN, "not a login response: {answer:?}");
        if answer.header[36] != 0 {
            return Ok(Err(Refusal { class: answer.header[36], detail: answer.header[37] }));
        }
        client.keys.extend(pdu::read_pairs(&answer.data)?);
        Ok(Ok(answer))
    }

    /// A login request without data.
    pub fn request(&self, client: &Client, flags: u8) -> Pdu {
        let mut pdu = Pdu::new(request::LOGIN | request::IMMEDIATE).flags(flags).tag(0);
        // an ISID of the random format (§11.12.5)
        pdu.header[8..12].copy_from_slice(&(0x8000_0000 | self.isid).to_be_bytes());
        pdu.header[14..16].copy_from_slice(&self.tsih.to_be_bytes());
        pdu.word(24, client.cmd_sn).word(28, client.exp_stat_sn)
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn digest(id: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    Md5::new().chain_update([id]).chain_update(secret).chain_update(challenge).finalize().to_vec()
}

fn to_hex(bytes: &[u8]) -> String {
    format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits = text.strip_prefix("0x").with_context(|| format!("{text:?} is not hexadecimal"))?;
    let pair = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or("?"), 16);
    (0..digits.len()).step_by(2).map(|at| pair(at).context("hexadecimal digits")).collect()
}
