//! A byte stream, plain or under TLS: a client's, or a peer's.
//!
//! Plain bytes go between the kernel and aligned buffers without a copy. Under TLS they pass through rustls,
//! whose buffered interface is known to this file alone.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use reactor::{Buffer, Core, Gather, Handle, Path, io as verbs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::fault::{Fault, Kind};

/// Plaintext taken from rustls at a time.
const TLS_READ_BYTES: usize = 64 << 10;

/// One connection's bytes.
pub struct Channel {
    core: Core,
    socket: Handle,
    tls: Option<Rc<RefCell<Tls>>>,
    /// Sends from this size on use SEND_ZC.
    zero_copy_bytes: usize,
}

/// A channel on its way to another core.
pub struct Parts {
    /// The socket.
    pub socket: OwnedFd,
    /// TLS, where it is in use.
    pub tls: Option<Box<Connection>>,
    /// Decrypted bytes that nobody has taken yet.
    pub plaintext: Vec<u8>,
}

struct Tls {
    connection: Box<Connection>,
    /// Ciphertext that rustls has not taken yet, and how much of it has been.
    pending: Option<(Buffer, usize)>,
}

impl Channel {
    /// The plain stream of `socket`. Sends of at least `zero_copy_bytes` are lent to the network card.
    pub fn new(
        core: &Core,
        socket: OwnedFd,
        address: Option<SocketAddr>,
        zero_copy_bytes: Option<usize>,
    ) -> Channel {
        let is_remote = address.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        let zero_copy_bytes = zero_copy_bytes.filter(|_| is_remote).unwrap_or(usize::MAX);
        Channel { core: core.clone(), socket: core.adopt(socket, Path::Ring), tls: None, zero_copy_bytes }
    }

    /// The stream that another core took apart.
    pub fn resume(mut self, tls: Option<Box<Connection>>) -> Channel {
        self.tls = tls.map(|connection| Rc::new(RefCell::new(Tls { connection, pending: None })));
        self
    }

    /// Takes the stream apart for another core: its socket, TLS state, and the plaintext already here.
    pub fn into_parts(self) -> Result<Parts, Fault> {
        let socket = self.socket.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|error| Fault::io("cannot hand a client to its core", error))?;
        let Some(tls) = self.tls else { return Ok(Parts { socket, tls: None, plaintext: Vec::new() }) };
        let mut plaintext = Vec::new();
        let mut tls = Rc::into_inner(tls).expect("nobody else uses a channel that moves").into_inner();
        loop {
            let _ = tls.connection.reader().read_to_end(&mut plaintext);
            if !tls.feed()? {
                return Ok(Parts { socket, tls: Some(tls.connection), plaintext });
            }
        }
    }

    /// The socket, to name it.
    pub fn socket(&self) -> &Handle {
        &self.socket
    }

    /// The address that the client came to; `None` for a unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = socket2::SockRef::from(&self.socket.as_fd()).local_addr();
        address.ok().and_then(|address| address.as_socket())
    }

    /// Whether TLS is in use.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Waits for the next turn of the core: all that has been begun is on its way then.
    pub async fn pause(&self) {
        verbs::sleep(&self.core, Duration::ZERO).await;
    }

    /// What has come; `None` at the end of the stream. `len_max` 0 takes all that fits a receive buffer.
    pub async fn receive(&self, len_max: u32) -> Result<Option<Buffer>, Fault> {
        match &self.tls {
            None => self.receive_raw(len_max).await,
            Some(tls) => self.receive_tls(tls).await,
        }
    }

    /// Fills `buffer[start..]`.
    pub async fn receive_exact(&self, mut buffer: Buffer, mut start: usize) -> Result<Buffer, Fault> {
        if self.tls.is_none() {
            let (result, buffer) = verbs::receive_exact(&self.socket, buffer, start).await;
            return result.map(|()| buffer).map_err(lost);
        }
        while start < buffer.len() {
            let tls = self.tls.as_ref().expect("looked at above");
            let read = tls.borrow_mut().read(&mut buffer.bytes_mut()[start..])?;
            start += read;
            if read == 0 && !self.more_ciphertext(tls).await? {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(buffer)
    }

    /// The same, and calls `tells` after each `part_bytes`.
    pub async fn receive_parts(
        &self,
        mut buffer: Buffer,
        mut start: usize,
        part_bytes: usize,
        tells: &dyn Fn(),
    ) -> Result<Buffer, Fault> {
        let len = buffer.len();
        while start < len {
            let end = len.min(start + part_bytes);
            buffer.resize(end);
            buffer = self.receive_exact(buffer, start).await?;
            start = end;
            tells();
        }
        Ok(buffer)
    }

    /// Sends all of `gather` and gives it back empty. `progress` is called whenever the peer has taken a part.
    pub async fn send(
        &self,
        mut gather: Box<Gather>,
        progress: impl Fn(),
    ) -> (Result<(), Fault>, Box<Gather>) {
        if let Some(tls) = &self.tls {
            let mut plaintext = Vec::with_capacity(gather.remaining());
            gather.copy_to(&mut plaintext);
            gather.clear();
            if let Err(error) = tls.borrow_mut().encrypt(&plaintext, &mut gather) {
                return (Err(lost(error)), gather);
            }
        }
        let zero_copy = gather.remaining() >= self.zero_copy_bytes;
        let (result, mut gather) = verbs::send(&self.socket, gather, zero_copy, |_| progress()).await;
        gather.clear();
        (result.map_err(lost), gather)
    }

    /// Sends `bytes`.
    pub async fn send_bytes(&self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut gather = Box::<Gather>::default();
        gather.head(|out| out.extend_from_slice(bytes));
        self.send(gather, || ()).await.0
    }

    /// Performs the TLS handshake as the server.
    pub async fn start_tls(&mut self, config: &Arc<ServerConfig>) -> Result<(), Fault> {
        let connection = ServerConnection::new(config.clone())
            .map_err(|error| Fault::caused(Kind::Protocol, "TLS cannot be started", error))?;
        self.begin_tls(connection.into()).await
    }

    /// Performs the TLS handshake as the client, with a server of this name.
    pub async fn connect_tls(
        &mut self,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), Fault> {
        let connection = ClientConnection::new(config.clone(), name)
            .map_err(|error| Fault::caused(Kind::Protocol, "TLS cannot be started", error))?;
        self.begin_tls(connection.into()).await
    }

    /// The certificate that the other end has shown under TLS.
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        let tls = self.tls.as_ref()?.borrow();
        tls.connection.peer_certificates()?.first().map(|certificate| certificate.clone().into_owned())
    }

    async fn begin_tls(&mut self, connection: Connection) -> Result<(), Fault> {
        let tls = Rc::new(RefCell::new(Tls { connection: Box::new(connection), pending: None }));
        tls.borrow_mut().connection.set_buffer_limit(None);
        let result = self.shake_hands(&tls).await;
        // An alert, or the last flight.
        let sent = self.flush_tls(&tls).await;
        result.and(sent)?;
        self.tls = Some(tls);
        Ok(())
    }

    async fn shake_hands(&self, tls: &Rc<RefCell<Tls>>) -> Result<(), Fault> {
        while tls.borrow().connection.is_handshaking() {
            self.flush_tls(tls).await?;
            if tls.borrow().connection.is_handshaking() && !self.more_ciphertext(tls).await? {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    async fn flush_tls(&self, tls: &Rc<RefCell<Tls>>) -> Result<(), Fault> {
        let mut gather = Box::<Gather>::default();
        tls.borrow_mut().drain(&mut gather).map_err(lost)?;
        let (result, _) = verbs::send(&self.socket, gather, false, |_| ()).await;
        result.map_err(lost)
    }

    async fn receive_tls(&self, tls: &Rc<RefCell<Tls>>) -> Result<Option<Buffer>, Fault> {
        loop {
            let mut buffer = self.plain_buffer(TLS_READ_BYTES);
            let read = tls.borrow_mut().read(buffer.bytes_mut())?;
            if read > 0 {
                buffer.resize(read);
                return Ok(Some(buffer));
            }
            drop(buffer);
            if !self.more_ciphertext(tls).await? {
                return Ok(None);
            }
        }
    }

    /// Gives rustls more to decrypt; `false` at the end of the stream.
    async fn more_ciphertext(&self, tls: &Rc<RefCell<Tls>>) -> Result<bool, Fault> {
        if tls.borrow_mut().feed()? {
            return Ok(true);
        }
        let Some(buffer) = self.receive_raw(0).await? else { return Ok(false) };
        tls.borrow_mut().pending = Some((buffer, 0));
        tls.borrow_mut().feed()
    }

    async fn receive_raw(&self, len_max: u32) -> Result<Option<Buffer>, Fault> {
        let received = match verbs::receive(&self.socket, len_max).await {
            // All receive buffers are in use: the bytes are there, so a buffer of our own is not held for long.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                let len = if len_max == 0 { 4096 } else { (len_max as usize).min(4096) };
                verbs::receive_some(&self.socket, self.plain_buffer(len)).await
            }
            result => result,
        };
        let buffer = received.map_err(lost)?;
        Ok((buffer.len() > 0).then_some(buffer))
    }

    fn plain_buffer(&self, len: usize) -> Buffer {
        let arena = self.core.arena();
        arena.try_take(len).unwrap_or_else(|| arena.spill(len.min(16 << 10)))
    }
}

impl Tls {
    /// Decrypted bytes; 0 for none yet.
    fn read(&mut self, to: &mut [u8]) -> Result<usize, Fault> {
        match self.connection.reader().read(to) {
            Ok(read) => Ok(read),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof) =>
            {
                Ok(0)
            }
            Err(error) => Err(lost(error)),
        }
    }

    /// Decrypts what is pending, as far as rustls has room. `false`: there was nothing to decrypt.
    fn feed(&mut self) -> Result<bool, Fault> {
        let Some((buffer, mut at)) = self.pending.take() else { return Ok(false) };
        while at < buffer.len() {
            let taken = self.connection.read_tls(&mut &buffer.bytes()[at..]).map_err(lost)?;
            if taken == 0 {
                // The client has said that it will send no more; whatever comes after is nobody's.
                return Ok(false);
            }
            at += taken;
            let state = self.connection.process_new_packets();
            let state = state.map_err(|error| Fault::caused(Kind::Protocol, "TLS", error))?;
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        if at < buffer.len() {
            self.pending = Some((buffer, at));
        }
        Ok(true)
    }

    fn encrypt(&mut self, plaintext: &[u8], gather: &mut Gather) -> io::Result<()> {
        self.connection.writer().write_all(plaintext)?;
        self.drain(gather)
    }

    fn drain(&mut self, gather: &mut Gather) -> io::Result<()> {
        let mut result = Ok(());
        gather.head(|out| {
            while result.is_ok() && self.connection.wants_write() {
                result = self.connection.write_tls(out).map(drop);
            }
        });
        result
    }
}

fn lost(error: io::Error) -> Fault {
    Fault::caused(Kind::Disconnected, "the connection was lost", error)
}
