//! One connection of one client, from the agreement to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::sync::WaitList;
use reactor::{Core, Handle, io as verbs};

use super::speech::{Heard, Kind, Question, Speech};
use super::words::Reply;
use super::{Clients, send};
use crate::dice::Dice;
use crate::disk::SECTOR_BYTES;
use crate::history::{Asked, Request, tag_of};
use crate::timeline;

/// A client that waits longer for an answer gives its connection up.
const PATIENCE: Duration = Duration::from_secs(45);

/// One connection.
pub struct Session {
    clients: Rc<Clients>,
    number: usize,
    socket: Handle,
    speech: RefCell<Speech>,
    /// Requests by their cookie: their place in the history.
    waiting: RefCell<BTreeMap<u64, usize>>,
    outgoing: RefCell<Vec<u8>>,
    changed: WaitList,
    is_over: Cell<bool>,
    dice: RefCell<Dice>,
}

impl Session {
    pub fn new(
        clients: &Rc<Clients>,
        number: usize,
        socket: Handle,
        speech: Speech,
        dice: &mut Dice,
    ) -> Rc<Session> {
        Rc::new(Session {
            clients: clients.clone(),
            number,
            socket,
            speech: RefCell::new(speech),
            waiting: RefCell::default(),
            outgoing: RefCell::default(),
            changed: WaitList::default(),
            is_over: Cell::new(false),
            dice: RefCell::new(dice.child()),
        })
    }

    /// Asks and listens until one end has had enough; says why.
    pub async fn run(self: Rc<Self>) -> String {
        let core = self.core();
        core.spawn(self.clone().write());
        core.spawn(self.clone().ask());
        core.spawn(self.clone().lose_patience());
        let end = self.listen().await;
        self.over();
        end
    }

    fn core(&self) -> Core {
        self.clients.core.clone()
    }

    fn over(&self) {
        self.is_over.set(true);
        self.socket.shutdown(Shutdown::Both);
        self.changed.wake_all();
    }

    async fn write(self: Rc<Self>) {
        while !self.is_over.get() {
            let bytes = std::mem::take(&mut *self.outgoing.borrow_mut());
            if bytes.is_empty() {
                self.changed.wait().await;
            } else if send(&self.socket, &bytes).await.is_err() {
                return self.over();
            }
        }
    }

    async fn ask(self: Rc<Self>) {
        let core = self.core();
        let habits = self.clients.habits;
        let lifetime = self.dice.borrow_mut().scale(1, 2000);
        for _ in 0..lifetime {
            let has_room = || self.waiting.borrow().len() < habits.depth && self.speech.borrow().may_ask();
            while !has_room() && !self.is_over.get() {
                self.changed.wait().await;
            }
            if self.is_over.get() || self.clients.is_over.get() {
                break;
            }
            self.ask_one();
            if habits.pause_max > 0 && self.dice.borrow_mut().percent(50) {
                let pause = self.dice.borrow_mut().below(habits.pause_max);
                verbs::sleep(&core, Duration::from_nanos(pause)).await;
            }
        }
        while !self.waiting.borrow().is_empty() && !self.is_over.get() {
            self.changed.wait().await;
        }
        if !self.is_over.get() {
            self.speech.borrow_mut().farewell(&mut self.outgoing.borrow_mut());
            self.changed.wake_all();
        }
    }

    fn ask_one(&self) {
        let habits = self.clients.habits;
        let mut dice = self.dice.borrow_mut();
        let sectors = dice.scale(1, habits.longest as u64) as usize;
        let first = dice.index(habits.sectors - sectors + 1);
        let roll = dice.below(100);
        let (kind, asked) = match roll {
            _ if roll < habits.flushes => (Kind::Flush, Asked::Flush),
            _ if roll < habits.flushes + 2 => (Kind::Trim, Asked::Write(0)),
            _ if roll < habits.flushes + 4 => (Kind::Zero, Asked::Write(0)),
            _ if roll < habits.flushes + 4 + habits.writes => (Kind::Write, Asked::Write(self.clients.tag())),
            _ => (Kind::Read, Asked::Read(Vec::new())),
        };
        let mut speech = self.speech.borrow_mut();
        let durable = speech.has_durable(kind) && dice.percent(5);
        let mut history = self.clients.history.borrow_mut();
        let place = history.requests.len();
        let cookie = place as u64;
        let tag = if let Asked::Write(tag) = asked { tag } else { 0 };
        let question = Question { cookie, kind, first, sectors, tag, durable };
        speech.ask(&question, &mut self.outgoing.borrow_mut());
        let sent = self.clients.core.now().0;
        timeline::line(|| format!("client {} asks {question:?}", self.number));
        history.requests.push(Request { asked, first, sectors, durable, sent, answered: None });
        self.waiting.borrow_mut().insert(cookie, place);
        self.changed.wake_all();
    }

    async fn lose_patience(self: Rc<Self>) {
        let core = self.core();
        while !self.is_over.get() {
            verbs::sleep(&core, Duration::from_secs(1)).await;
            let oldest = self.waiting.borrow().values().next().copied();
            let sent = oldest.map(|place| self.clients.history.borrow().requests[place].sent);
            if sent.is_some_and(|sent| core.now().0 - sent > PATIENCE.as_nanos() as u64) {
                timeline::line(|| format!("client {} loses patience", self.number));
                if sent.is_some_and(|sent| sent > self.clients.well_since.get()) {
                    self.complain(format!("no answer in {PATIENCE:?}, although nothing is wrong"));
                }
                return self.over();
            }
        }
    }

    async fn listen(&self) -> String {
        loop {
            let heard = self.speech.borrow_mut().hear(&mut self.outgoing.borrow_mut());
            self.changed.wake_all();
            match heard {
                Ok(Some(Heard::Reply(reply))) => {
                    if let Err(scandal) = self.told(reply) {
                        return self.complain(scandal);
                    }
                    continue;
                }
                Ok(Some(Heard::Leave)) => return "it has asked us to leave".into(),
                Ok(None) => {}
                Err(scandal) => return self.complain(scandal),
            }
            match verbs::receive(&self.socket, 0).await {
                Ok(received) if received.len() == 0 => return "it has hung up".into(),
                Ok(received) => self.speech.borrow_mut().push(received.bytes()),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn complain(&self, scandal: String) -> String {
        self.clients.scandal.borrow_mut().get_or_insert(scandal.clone());
        scandal
    }

    fn told(&self, reply: Reply) -> Result<(), String> {
        let place = self.waiting.borrow_mut().remove(&reply.cookie).expect("it was asked");
        let mut history = self.clients.history.borrow_mut();
        let [well, badly] = self.clients.answered.get();
        let is_well = reply.error.is_none();
        self.clients.answered.set([well + u64::from(is_well), badly + u64::from(!is_well)]);
        let Request { first, sent, .. } = history.requests[place];
        let mut found = Vec::new();
        let mut is_torn = false;
        if is_well {
            for (index, bytes) in reply.data.chunks_exact(SECTOR_BYTES).enumerate() {
                match tag_of(bytes, first + index) {
                    Ok(tag) => found.push(tag),
                    Err(_) if self.clients.may_tear && history.is_torn(bytes, first + index, sent) => {
                        is_torn = true;
                    }
                    Err(scandal) => return Err(scandal),
                }
            }
        }
        let request = &mut history.requests[place];
        if is_well && !is_torn {
            request.answered = Some(self.clients.core.now().0);
            if let Asked::Read(tags) = &mut request.asked {
                *tags = found;
            }
        }
        timeline::line(|| {
            let found =
                if let Asked::Read(tags) = &request.asked { format!("{tags:?}") } else { String::new() };
            format!("client {} is told {}: {:?} {found}", self.number, reply.cookie, reply.error)
        });
        self.changed.wake_all();
        Ok(())
    }
}
