//! A server's byte stream, plain or under TLS. One task receives, another sends.
//!
//! Its one rule: rustls is borrowed only between awaits.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::runtime::Stream;

/// Ciphertext taken from the socket at a time.
const CIPHERTEXT_BYTES: usize = 64 << 10;

/// One connection's bytes.
pub(super) struct Channel {
    stream: Stream,
    tls: Option<RefCell<Tls>>,
}

struct Tls {
    connection: Box<ClientConnection>,
    /// What has come, and how much of it rustls has taken.
    ciphertext: Vec<u8>,
    taken: usize,
    filled: usize,
}

impl Channel {
    /// The plain bytes of `stream`.
    pub(super) fn new(stream: Stream) -> Channel {
        Channel { stream, tls: None }
    }

    /// Receives into `buffer[start..end]`, which is not empty; how many bytes, 0 at the end of the stream.
    pub(super) async fn receive(
        &self,
        mut buffer: Vec<u8>,
        start: usize,
        end: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        let Some(tls) = &self.tls else { return self.stream.receive(buffer, start, end).await };
        loop {
            let read = tls.borrow_mut().read(&mut buffer[start..end]);
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return (read, buffer),
            }
            if let Err(error) = self.receive_ciphertext(tls).await {
                return (Err(error), buffer);
            }
        }
    }

    /// Sends all parts, in order, and gives them back. They are not empty, and not more than 1024.
    pub(super) async fn send(&self, parts: Vec<Vec<u8>>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let Some(tls) = &self.tls else { return self.stream.send(parts).await };
        let encrypted = tls.borrow_mut().encrypt(&parts);
        let result = match encrypted {
            Ok(encrypted) if encrypted.is_empty() => Ok(()),
            Ok(encrypted) => self.stream.send(vec![encrypted]).await.0,
            Err(error) => Err(error),
        };
        (result, parts)
    }

    /// Whether TLS itself has something to send: an empty `send` does it.
    pub(super) fn wants_send(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().connection.wants_write())
    }

    /// Performs the TLS handshake.
    pub(super) async fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        let connection = Box::new(connection);
        let tls = RefCell::new(Tls { connection, ciphertext: Vec::new(), taken: 0, filled: 0 });
        let result = self.shake_hands(&tls).await;
        // An alert, or the last flight.
        let flushed = self.flush(&tls).await;
        self.tls = Some(tls);
        result.and(flushed)
    }

    /// No more will be sent; under TLS the server is told so.
    pub(super) async fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().connection.send_close_notify();
            // The server may be gone already.
            let _ = self.flush(tls).await;
        }
        self.stream.shutdown_send();
    }

    /// Ends the stream at once: both tasks get an error or the end.
    pub(super) fn shutdown(&self) {
        self.stream.shutdown();
    }

    /// The same, and what is still on its way to the server shall not arrive.
    pub(super) fn abort(&self) {
        self.stream.abort();
    }

    /// The plain socket; `None` under TLS.
    pub(super) fn into_stream(self) -> Option<Stream> {
        self.tls.is_none().then_some(self.stream)
    }

    async fn shake_hands(&self, tls: &RefCell<Tls>) -> io::Result<()> {
        while tls.borrow().connection.is_handshaking() {
            self.flush(tls).await?;
            if tls.borrow().connection.is_handshaking() {
                self.receive_ciphertext(tls).await?;
            }
        }
        Ok(())
    }

    async fn flush(&self, tls: &RefCell<Tls>) -> io::Result<()> {
        let encrypted = tls.borrow_mut().drain()?;
        if encrypted.is_empty() { Ok(()) } else { self.stream.send(vec![encrypted]).await.0 }
    }

    /// Gives rustls more to decrypt.
    async fn receive_ciphertext(&self, tls: &RefCell<Tls>) -> io::Result<()> {
        if tls.borrow_mut().feed()? {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut tls.borrow_mut().ciphertext);
        buffer.resize(CIPHERTEXT_BYTES, 0);
        let (received, buffer) = self.stream.receive(buffer, 0, CIPHERTEXT_BYTES).await;
        let mut tls = tls.borrow_mut();
        (tls.ciphertext, tls.taken, tls.filled) = (buffer, 0, 0);
        tls.filled = received?;
        if tls.filled == 0 {
            // Without a word of goodbye somebody in between may have cut the stream.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.feed().map(drop)
    }
}

impl Tls {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.connection.reader().read(to)
    }

    /// Decrypts what has come until there is something to read. `false`: nothing was left to decrypt.
    fn feed(&mut self) -> io::Result<bool> {
        let mut fed = false;
        while self.taken < self.filled {
            let count = self.connection.read_tls(&mut &self.ciphertext[self.taken..self.filled])?;
            if count == 0 {
                // After its goodbye the server's words are nobody's.
                self.taken = self.filled;
                return Ok(true);
            }
            self.taken += count;
            fed = true;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        Ok(fed)
    }

    fn encrypt(&mut self, parts: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        for part in parts {
            self.connection.writer().write_all(part)?;
        }
        self.drain()
    }

    fn drain(&mut self) -> io::Result<Vec<u8>> {
        let mut encrypted = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut encrypted)?;
        }
        Ok(encrypted)
    }
}
