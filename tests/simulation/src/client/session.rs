//! One connection of one client, from the agreement to its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::sync::WaitList;
use reactor::{Core, Handle, io as verbs};
use wire::nbd::transmission::{Command, CommandFlags, Cookie, ReplyStyle, Request as Wire, encode_request};

use super::words::{Replies, Reply};
use super::{Clients, send};
use crate::dice::Dice;
use crate::disk::SECTOR_BYTES;
use crate::history::{Asked, Request, fill, tag_of};
use crate::timeline;

/// A client that waits longer for an answer gives its connection up.
const PATIENCE: Duration = Duration::from_secs(45);

/// One connection.
pub struct Session {
    clients: Rc<Clients>,
    number: usize,
    socket: Handle,
    style: ReplyStyle,
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
        style: ReplyStyle,
        dice: &mut Dice,
    ) -> Rc<Session> {
        Rc::new(Session {
            clients: clients.clone(),
            number,
            socket,
            style,
            waiting: RefCell::default(),
            outgoing: RefCell::default(),
            changed: WaitList::default(),
            is_over: Cell::new(false),
            dice: RefCell::new(dice.child()),
        })
    }

    /// Asks and listens until one end has had enough; says why.
    pub async fn run(self: Rc<Self>, leftover: Vec<u8>) -> String {
        let core = self.core();
        core.spawn(self.clone().write());
        core.spawn(self.clone().ask());
        core.spawn(self.clone().lose_patience());
        let end = self.listen(leftover).await;
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
            while self.waiting.borrow().len() >= habits.depth && !self.is_over.get() {
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
            let farewell = Wire {
                command: Command::Disconnect,
                flags: CommandFlags::NONE,
                cookie: Cookie(0),
                offset: 0,
                length: 0,
            };
            encode_request(&mut self.outgoing.borrow_mut(), self.style, &farewell);
            self.changed.wake_all();
        }
    }

    fn ask_one(&self) {
        let habits = self.clients.habits;
        let mut dice = self.dice.borrow_mut();
        let sectors = dice.scale(1, habits.longest as u64) as usize;
        let first = dice.index(habits.sectors - sectors + 1);
        let roll = dice.below(100);
        let (command, asked) = match roll {
            _ if roll < habits.flushes => (Command::Flush, Asked::Flush),
            _ if roll < habits.flushes + 2 => (Command::Trim, Asked::Write(0)),
            _ if roll < habits.flushes + 4 => (Command::WriteZeroes, Asked::Write(0)),
            _ if roll < habits.flushes + 4 + habits.writes => {
                (Command::Write, Asked::Write(self.clients.tag()))
            }
            _ => (Command::Read, Asked::Read(Vec::new())),
        };
        let durable = matches!(asked, Asked::Write(_)) && dice.percent(5);
        let flags = if durable { CommandFlags::FUA } else { CommandFlags::NONE };
        let (offset, length) = match command {
            Command::Flush => (0, 0),
            _ => ((first * SECTOR_BYTES) as u64, (sectors * SECTOR_BYTES) as u64),
        };
        let mut history = self.clients.history.borrow_mut();
        let place = history.requests.len();
        let cookie = place as u64;
        let outgoing = &mut *self.outgoing.borrow_mut();
        encode_request(
            outgoing,
            self.style,
            &Wire { command, flags, cookie: Cookie(cookie), offset, length },
        );
        if let (Command::Write, Asked::Write(tag)) = (command, &asked) {
            (first..first + sectors).for_each(|sector| fill(*tag, sector, outgoing));
        }
        let sent = self.clients.core.now().0;
        timeline::line(|| {
            format!("client {} asks {cookie}: {command:?} {first}+{sectors} {asked:?} {flags:?}", self.number)
        });
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
                return self.over();
            }
        }
    }

    async fn listen(&self, leftover: Vec<u8>) -> String {
        let mut replies = Replies::new(self.style, leftover);
        loop {
            let expected = |cookie: Cookie| self.expected(cookie.0);
            match replies.next(expected) {
                Ok(Some(reply)) => {
                    if let Err(scandal) = self.told(reply) {
                        return self.complain(scandal);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(scandal) => return self.complain(scandal),
            }
            match verbs::receive(&self.socket, 0).await {
                Ok(received) if received.len() == 0 => return "it has hung up".into(),
                Ok(received) => replies.push(received.bytes()),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn complain(&self, scandal: String) -> String {
        self.clients.scandal.borrow_mut().get_or_insert(scandal.clone());
        scandal
    }

    /// Offset and length of the read with this cookie; `None` if there is no such request, 0 bytes for another kind.
    fn expected(&self, cookie: u64) -> Option<(u64, usize)> {
        let place = *self.waiting.borrow().get(&cookie)?;
        let history = self.clients.history.borrow();
        let request = &history.requests[place];
        let bytes = if matches!(request.asked, Asked::Read(_)) { request.sectors * SECTOR_BYTES } else { 0 };
        Some(((request.first * SECTOR_BYTES) as u64, bytes))
    }

    fn told(&self, reply: Reply) -> Result<(), String> {
        let place = self.waiting.borrow_mut().remove(&reply.cookie).expect("looked up by the decoder");
        let mut history = self.clients.history.borrow_mut();
        let request = &mut history.requests[place];
        let [well, badly] = self.clients.answered.get();
        let is_well = reply.error.is_none();
        self.clients.answered.set([well + u64::from(is_well), badly + u64::from(!is_well)]);
        if is_well {
            request.answered = Some(self.clients.core.now().0);
            if let Asked::Read(tags) = &mut request.asked {
                let sectors = reply.data.chunks_exact(SECTOR_BYTES).enumerate();
                let found: Result<Vec<u64>, String> =
                    sectors.map(|(index, bytes)| tag_of(bytes, request.first + index)).collect();
                *tags = found?;
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
