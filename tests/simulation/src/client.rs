//! Clients of NBD and iSCSI on a machine of their own: they connect to any node, ask for several things at once, and write
//! down what they asked and were told.
//!
//! Its one rule: a client that loses its connection never learns what became of its requests.

mod iscsi;
mod session;
mod speech;
mod words;

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Core, Gather, Handle, Path, io as verbs};
use wire::nbd::dial::{Dial, DialOptions, DialStep};

use crate::dice::Dice;
use crate::history::History;
use crate::node::{ISCSI_PORT, NBD_PORT, Shared, VOLUME};
use crate::timeline;
use session::Session;
use speech::{Nbd, Speech};

/// To connect and to agree.
const DIAL: Duration = Duration::from_secs(5);

/// How the clients of a run behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How many there are.
    pub clients: usize,
    /// Requests of one client under way at once.
    pub depth: usize,
    /// Between two requests of one client, at most, in nanoseconds.
    pub pause_max: u64,
    /// Sectors of the volume.
    pub sectors: usize,
    /// Sectors of the longest request.
    pub longest: usize,
    /// Of a hundred requests, so many write.
    pub writes: u64,
    /// Of a hundred requests, so many flush.
    pub flushes: u64,
    /// Of a hundred connections, so many speak iSCSI.
    pub iscsi: u64,
}

/// All clients.
pub struct Clients {
    core: Core,
    nodes: usize,
    habits: Habits,
    /// Reads may be of sectors that are just being written.
    may_tear: bool,
    /// What they wrote down.
    pub history: RefCell<History>,
    next_tag: Cell<u64>,
    is_over: Cell<bool>,
    well_since: Cell<u64>,
    running: Cell<usize>,
    /// Requests answered without an error, and with one.
    pub answered: Cell<[u64; 2]>,
    /// What no honest server says.
    pub scandal: RefCell<Option<String>>,
}

impl Clients {
    /// Starts them.
    pub fn start(core: &Core, shared: &Shared, habits: Habits, dice: &mut Dice) -> Rc<Clients> {
        let clients = Rc::new(Clients {
            core: core.clone(),
            nodes: shared.names.len(),
            habits,
            may_tear: shared.in_memory.contains(&true),
            history: RefCell::default(),
            next_tag: Cell::new(1),
            is_over: Cell::new(false),
            well_since: Cell::new(u64::MAX),
            running: Cell::new(0),
            answered: Cell::new([0; 2]),
            scandal: RefCell::default(),
        });
        for number in 0..habits.clients {
            clients.running.set(clients.running.get() + 1);
            core.spawn(clients.clone().live(number, dice.child()));
        }
        clients
    }

    /// Nothing is wrong any more: from now on every request is to be answered in time.
    pub fn all_is_well(&self) {
        self.well_since.set(self.core.now().0);
    }

    /// They ask for nothing new, and leave when all is answered.
    pub fn finish(&self) {
        self.is_over.set(true);
    }

    /// Whether all have left.
    pub fn have_left(&self) -> bool {
        self.running.get() == 0
    }

    async fn live(self: Rc<Self>, number: usize, mut dice: Dice) {
        while !self.is_over.get() {
            let node = dice.index(self.nodes);
            match self.connect(node, &mut dice).await {
                Ok((socket, speech)) => {
                    timeline::line(|| {
                        let protocol = if matches!(speech, Speech::Nbd(_)) { "NBD" } else { "iSCSI" };
                        format!("client {number} is served by node {node} ({protocol})")
                    });
                    let session = Session::new(&self, number, socket, speech, &mut dice);
                    let end = session.run().await;
                    timeline::line(|| format!("client {number} has left node {node}: {end}"));
                }
                Err(why) => timeline::line(|| format!("client {number} does not get to node {node}: {why}")),
            }
            verbs::sleep(&self.core, Duration::from_millis(dice.between(5, 300))).await;
        }
        self.running.set(self.running.get() - 1);
    }

    async fn connect(&self, node: usize, dice: &mut Dice) -> Result<(Handle, Speech), String> {
        let is_iscsi = dice.percent(self.habits.iscsi);
        let port = if is_iscsi { ISCSI_PORT } else { NBD_PORT };
        let address = ([10, 0, 0, node as u8 + 1], port).into();
        let fd = self.core.socket(address).map_err(|error| error.to_string())?;
        let socket = self.core.adopt(fd, Path::Ring);
        let expiring = socket.clone();
        let expire = move || expiring.shutdown(Shutdown::Both);
        let agreeing = async {
            verbs::connect(&socket, address).await.map_err(|error| error.to_string())?;
            match is_iscsi {
                true => Ok(Speech::Iscsi(Box::new(iscsi::log_in(&socket, dice).await?))),
                false => agree(&socket, dice).await.map(Speech::Nbd),
            }
        };
        let speech: Result<Speech, String> =
            verbs::with_deadline(self.core.now() + DIAL, agreeing, expire).await;
        Ok((socket, speech?))
    }

    fn tag(&self) -> u64 {
        let tag = self.next_tag.get();
        self.next_tag.set(tag + 1);
        tag
    }
}

async fn agree(socket: &Handle, dice: &mut Dice) -> Result<Nbd, String> {
    let wishes = DialOptions {
        export: VOLUME.into(),
        want_structured: dice.percent(70),
        want_extended: dice.percent(40),
        ..DialOptions::default()
    };
    let mut dial = Dial::new(wishes);
    let mut input = Vec::new();
    let mut out = Vec::new();
    loop {
        let received = verbs::receive(socket, 0).await.map_err(|error| error.to_string())?;
        if received.len() == 0 {
            return Err("it hung up while we negotiated".into());
        }
        input.extend_from_slice(received.bytes());
        let (taken, step) = dial.step(&input, &mut out);
        input.drain(..taken);
        send(socket, &out).await?;
        out.clear();
        match step {
            DialStep::More => {}
            DialStep::Agreed(agreed) => return Ok(Nbd::new(agreed.style, input)),
            other => return Err(format!("{other:?}")),
        }
    }
}

async fn send(socket: &Handle, bytes: &[u8]) -> Result<(), String> {
    let mut gather = Box::<Gather>::default();
    gather.head(|out| out.extend_from_slice(bytes));
    verbs::send(socket, gather, false, |_| ()).await.0.map_err(|error| error.to_string())
}
