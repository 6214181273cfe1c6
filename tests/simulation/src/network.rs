//! Connections between simulated machines, as TCP would carry them.
//!
//! ```text
//! side 0 (dialed) ── pipe 0: segments on their way ─▶ arrived bytes ── side 1 (accepted)
//!                 ◀── pipe 1 ─────────────────────────────────────────
//! ```
//! A cut link holds segments back until it is whole again; a machine without power answers nothing, and with it
//! back, resets what it does not know. Its one rule: bytes arrive in order, once, or the connection is reset.

mod pipe;

use std::collections::{BTreeMap, VecDeque};

use nix::libc;
use reactor::op::Token;

use crate::agenda::{Agenda, CoreId, Event, HostId, Landing, MILLISECOND, SECOND};
use crate::timeline;
pub use pipe::Shape;
use pipe::{End, EndState, Pipe, Reader, Segment, Sent, Writer};

/// All of it.
pub struct Network {
    shape: Shape,
    connections: BTreeMap<u32, Connection>,
    next: u32,
    listeners: BTreeMap<(HostId, u16), Listener>,
    /// `cuts[from][to]`.
    cuts: Vec<Vec<bool>>,
    powered: Vec<bool>,
}

struct Connection {
    to_port: u16,
    ends: [End; 2],
    pipes: [Pipe; 2],
    asked_since: u64,
}

struct Listener {
    core: CoreId,
    acceptor: Option<Token>,
    waiting: VecDeque<u32>,
}

impl Connection {
    /// Whether this machine, on this side, has forgotten what the other still believes in.
    fn is_half_open(&self, host: HostId, side: usize) -> bool {
        let [here, there] = [&self.ends[side], &self.ends[1 - side]];
        here.host == host && here.state == EndState::Forgotten && there.state == EndState::Open
    }
}

impl Network {
    /// Between so many machines.
    pub fn new(shape: Shape, hosts: usize) -> Network {
        Network {
            shape,
            connections: BTreeMap::new(),
            next: 1,
            listeners: BTreeMap::new(),
            cuts: vec![vec![false; hosts]; hosts],
            powered: vec![true; hosts],
        }
    }

    /// Begins to take connections.
    pub fn listen(&mut self, host: HostId, core: CoreId, port: u16) {
        let listener = Listener { core, acceptor: None, waiting: VecDeque::new() };
        self.listeners.insert((host, port), listener);
    }

    /// The next connection.
    pub fn accept(&mut self, agenda: &mut Agenda, at: (HostId, u16), core: CoreId, token: Token) {
        let Some(listener) = self.listeners.get_mut(&at) else {
            return agenda.land(core, token, Landing::Failed(libc::EINVAL));
        };
        match listener.waiting.pop_front() {
            Some(connection) => agenda.land(core, token, Landing::Accepted(connection)),
            None => listener.acceptor = Some(token),
        }
    }

    /// Takes no more connections there.
    pub fn unlisten(&mut self, agenda: &mut Agenda, host: HostId, port: u16) {
        let Some(listener) = self.listeners.remove(&(host, port)) else { return };
        if let Some(token) = listener.acceptor {
            agenda.land(listener.core, token, Landing::Failed(libc::EINVAL));
        }
        for connection in listener.waiting {
            self.close(agenda, connection, 1);
        }
    }

    /// Asks for a connection; gives its number.
    pub fn dial(
        &mut self,
        agenda: &mut Agenda,
        from: (HostId, CoreId),
        to: (HostId, u16),
        token: Token,
    ) -> u32 {
        let (to, port) = to;
        let number = self.next;
        self.next += 1;
        let (from, core) = from;
        let ends = [End::new(from, core, EndState::Dialing(token)), End::new(to, 0, EndState::Nobody)];
        let pipes = [Pipe::default(), Pipe::default()];
        let asked_since = agenda.now;
        self.connections.insert(number, Connection { to_port: port, ends, pipes, asked_since });
        let delay = 2 * self.shape.delay(&mut agenda.dice);
        agenda.after(delay, Event::Syn { connection: number });
        number
    }

    /// Which machine a side of a connection is of, and its port: that which was dialed, or one of its own.
    pub fn end(&self, number: u32, side: usize) -> Option<(HostId, u16)> {
        let connection = self.connections.get(&number)?;
        let own = 0xc000 | number as u16;
        let port = if side == 1 { connection.to_port } else { own };
        Some((connection.ends[side].host, port))
    }

    /// A request for a connection has arrived, or is lost and comes again.
    pub fn syn(&mut self, agenda: &mut Agenda, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let EndState::Dialing(token) = connection.ends[0].state else { return };
        let (from, to) = (connection.ends[0].host, connection.ends[1].host);
        let dialer = connection.ends[0].core;
        if self.cuts[from][to] || self.cuts[to][from] || !self.powered[to] {
            if agenda.now - connection.asked_since > 20 * SECOND {
                connection.ends[0].state = EndState::Reset;
                return agenda.land(dialer, token, Landing::Failed(libc::ETIMEDOUT));
            }
            let delay = agenda.dice.between(200 * MILLISECOND, SECOND);
            return agenda.after(delay, Event::Syn { connection: number });
        }
        let Some(listener) = self.listeners.get_mut(&(to, connection.to_port)) else {
            connection.ends[0].state = EndState::Reset;
            return agenda.land(dialer, token, Landing::Failed(libc::ECONNREFUSED));
        };
        connection.ends[0].state = EndState::Open;
        connection.ends[1].state = EndState::Open;
        agenda.land(dialer, token, Landing::Moved(0));
        match listener.acceptor.take() {
            Some(acceptor) => agenda.land(listener.core, acceptor, Landing::Accepted(number)),
            None => listener.waiting.push_back(number),
        }
    }

    /// A core has taken this side in.
    pub fn moves(&mut self, number: u32, side: usize, core: CoreId) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.ends[side].core = core;
        }
    }

    /// Takes what comes to this side, at most `max` bytes; all of them with `whole`.
    pub fn receive(&mut self, agenda: &mut Agenda, at: (u32, usize), token: Token, max: usize, whole: bool) {
        let (number, side) = at;
        let connection = self.connections.get_mut(&number).expect("an open handle keeps its connection");
        assert!(connection.ends[side].reader.is_none(), "one receive at a time");
        connection.ends[side].reader = Some(Reader { token, max, whole });
        self.pump(agenda, number);
    }

    /// Sends from this side.
    pub fn send(&mut self, agenda: &mut Agenda, at: (u32, usize), token: Token, bytes: Vec<u8>) {
        let (number, side) = at;
        let connection = self.connections.get_mut(&number).expect("an open handle keeps its connection");
        assert!(connection.ends[side].writer.is_none(), "one send at a time");
        connection.ends[side].writer = Some(Writer { token, bytes });
        self.pump(agenda, number);
    }

    /// shutdown(2).
    pub fn shutdown(&mut self, agenda: &mut Agenda, at: (u32, usize), reading: bool, writing: bool) {
        let (number, side) = at;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = &mut connection.ends[side];
        if let EndState::Dialing(token) = end.state {
            end.state = EndState::Reset;
            return agenda.land(end.core, token, Landing::Failed(libc::ECONNABORTED));
        }
        end.reads_no_more |= reading;
        if writing && !std::mem::replace(&mut end.writes_no_more, true) {
            connection.pipes[side].push(agenda, Sent::End, &self.shape);
        }
        self.pump(agenda, number);
    }

    /// Nobody holds this side any more.
    pub fn close(&mut self, agenda: &mut Agenda, number: u32, side: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let unread = !connection.pipes[1 - side].arrived.is_empty();
        let end = &mut connection.ends[side];
        (end.reader, end.writer) = (None, None);
        if end.state == EndState::Open {
            if unread {
                connection.pipes[side].push(agenda, Sent::Reset, &self.shape);
            } else if !end.writes_no_more {
                connection.pipes[side].push(agenda, Sent::End, &self.shape);
            }
        }
        connection.ends[side].state = EndState::Closed;
        connection.ends[side].writes_no_more = true;
        connection.pipes[1 - side].arrived.clear();
        self.pump(agenda, number);
    }

    /// The first segment of a pipe has come to its end.
    pub fn arrive(&mut self, agenda: &mut Agenda, number: u32, side: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.pipes[side].is_arriving = false;
        let (from, to) = (connection.ends[side].host, connection.ends[1 - side].host);
        if self.cuts[from][to] || !self.powered[to] {
            return;
        }
        let Some(segment) = connection.pipes[side].segments.pop_front() else { return };
        let receiver = &mut connection.ends[1 - side];
        match (segment.what, receiver.state) {
            (Sent::Data(bytes), EndState::Open) => connection.pipes[side].arrived.extend(bytes),
            (Sent::End, EndState::Open) => connection.pipes[side].ended = true,
            (Sent::Reset, EndState::Open) => {
                receiver.state = EndState::Reset;
                connection.pipes[side].arrived.clear();
            }
            (Sent::Data(_), EndState::Closed | EndState::Forgotten) => {
                connection.pipes[1 - side].push(agenda, Sent::Reset, &self.shape);
            }
            _ => {}
        }
        self.pump(agenda, number);
    }

    /// Cuts or heals the way from one machine to another.
    pub fn set_cut(&mut self, agenda: &mut Agenda, from: HostId, to: HostId, is_cut: bool) {
        self.cuts[from][to] = is_cut;
        self.resume(agenda);
    }

    /// Ends a connection between two machines on both sides, if there is one.
    pub fn reset_one(&mut self, agenda: &mut Agenda, a: HostId, b: HostId) {
        let between = |connection: &Connection| {
            let hosts = [connection.ends[0].host, connection.ends[1].host];
            hosts.contains(&a) && hosts.contains(&b)
        };
        let numbers: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.ends[0].state == EndState::Open && between(connection))
            .map(|(number, _)| *number)
            .collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[agenda.dice.index(numbers.len())];
        let connection = self.connections.get_mut(&number).expect("just found");
        timeline::line(|| format!("connection {number} between {a} and {b} is reset"));
        for end in &mut connection.ends {
            if end.state == EndState::Open {
                end.state = EndState::Reset;
            }
        }
        for pipe in &mut connection.pipes {
            pipe.segments.clear();
            pipe.arrived.clear();
        }
        self.pump(agenda, number);
    }

    /// A process has ended; its system closes what it had.
    pub fn process_ended(&mut self, agenda: &mut Agenda, host: HostId) {
        self.forget_listeners(host);
        for (number, side) in self.ends_of(host) {
            self.close(agenda, number, side);
        }
    }

    /// A machine has lost its power: nothing more comes from it, and it will know nothing.
    pub fn power_lost(&mut self, agenda: &mut Agenda, host: HostId) {
        self.powered[host] = false;
        self.forget_listeners(host);
        for (number, side) in self.ends_of(host) {
            let connection = self.connections.get_mut(&number).expect("just listed");
            let end = &mut connection.ends[side];
            (end.reader, end.writer) = (None, None);
            end.state = EndState::Forgotten;
            connection.pipes[1 - side].arrived.clear();
            let kept = agenda.dice.index(connection.pipes[side].segments.len() + 1);
            connection.pipes[side].segments.truncate(kept);
            self.tidy(number);
        }
    }

    /// It has it back.
    pub fn power_back(&mut self, agenda: &mut Agenda, host: HostId) {
        self.powered[host] = true;
        self.resume(agenda);
        // Who still believes in a connection to it finds out by keep-alive, at the latest.
        for (number, connection) in &mut self.connections {
            let Some(side) = (0..2).find(|side| connection.is_half_open(host, *side)) else { continue };
            let pipe = &mut connection.pipes[side];
            let delay = agenda.dice.scale(100 * MILLISECOND, 10 * SECOND);
            pipe.segments.push_back(Segment { what: Sent::Reset, due: agenda.now + delay });
            if !std::mem::replace(&mut pipe.is_arriving, true) {
                agenda.after(delay, Event::Arrive { connection: *number, side });
            }
        }
    }

    fn forget_listeners(&mut self, host: HostId) {
        let gone: Vec<_> = self.listeners.keys().filter(|(at, _)| *at == host).copied().collect();
        for key in gone {
            self.listeners.remove(&key);
        }
    }

    fn ends_of(&self, host: HostId) -> Vec<(u32, usize)> {
        let sides = |(number, connection): (&u32, &Connection)| {
            let number = *number;
            let is_there = |side: &usize| {
                let end = &connection.ends[*side];
                end.host == host && !matches!(end.state, EndState::Closed | EndState::Forgotten)
            };
            [0, 1].into_iter().filter(is_there).map(|side| (number, side)).collect::<Vec<_>>()
        };
        self.connections.iter().flat_map(sides).collect()
    }

    fn resume(&mut self, agenda: &mut Agenda) {
        let numbers: Vec<u32> = self.connections.keys().copied().collect();
        for number in numbers {
            self.pump(agenda, number);
        }
    }

    /// Lets everything go on that can.
    fn pump(&mut self, agenda: &mut Agenda, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let Connection { ends, pipes, .. } = connection;
        for side in 0..2 {
            pipes[1 - side].read(agenda, &mut ends[side], &self.shape);
        }
        for side in 0..2 {
            pipes[side].write(agenda, &mut ends[side], &self.shape);
            let (from, to) = (ends[side].host, ends[1 - side].host);
            let is_open = !self.cuts[from][to] && self.powered[to];
            let pipe = &mut pipes[side];
            if !is_open || pipe.is_arriving {
                continue;
            }
            if let Some(due) = pipe.next_due(agenda, &self.shape) {
                pipe.is_arriving = true;
                agenda.at(due, Event::Arrive { connection: number, side });
            }
        }
        self.tidy(number);
    }

    fn tidy(&mut self, number: u32) {
        let Some(connection) = self.connections.get(&number) else { return };
        let is_gone =
            |end: &End| matches!(end.state, EndState::Closed | EndState::Forgotten | EndState::Nobody);
        let is_quiet = connection.pipes.iter().all(|pipe| pipe.segments.is_empty() && !pipe.is_arriving);
        if connection.ends.iter().all(is_gone) && is_quiet {
            self.connections.remove(&number);
        }
    }
}
