//! Several sessions with deep queues against a model of the disk: random lengths and offsets, every way in which data
//! out may come, aborts, resets, disconnects in the middle of everything, and NBD reading the same bytes.
//!
//! `RINGSAN_MODEL_SECONDS` runs each case for longer, `RINGSAN_MODEL_SEED` runs another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::history::{BLOCK, Before, History};
use tests::iscsi::{
    Client, Data, Login, NO_TAG, Pdu, function, read_10, request, response, target_name, write_10,
};
use tests::nbd;
use tests::scratch::Random;
use tests::target::Target;
use tests::{Launch, MIB, Scratch, backings};

const SESSIONS: usize = 3;
const REGION_BLOCKS: usize = 16 << 11;
const DEPTH_MAX: u64 = 40;
const LENGTH_MAX: u64 = 8192;
/// Data is cut between words only.
const WORD: usize = 8;
const CHECK_CONDITION: u8 = 2;
const UNIT_ATTENTION: u8 = 6;

#[derive(Clone)]
struct Disk(Arc<Mutex<History>>);

impl Disk {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Work {
    Read { before: Before, data: Vec<u8> },
    Write { id: u64, data: Vec<u8> },
    Probe,
}

/// A command that has not been answered.
struct Task {
    command: Pdu,
    work: Work,
    /// R2Ts that have not been answered.
    asked: Vec<Pdu>,
}

/// How the session negotiated.
#[derive(Clone)]
struct Ways {
    login: Login,
    immediate_max: usize,
    unsolicited_max: usize,
}

struct Session<'a> {
    target: &'a Target,
    disk: Disk,
    random: Random,
    /// The blocks that only this session writes.
    first: usize,
    ways: Ways,
    client: Client,
    tasks: Vec<Task>,
}

impl<'a> Session<'a> {
    fn begin(target: &'a Target, disk: Disk, number: usize, seed: u64) -> Result<Session<'a>> {
        let mut random = Random(seed ^ number as u64);
        let ways = Ways::draw(&mut random, number);
        let client = ways.login.attach(target.iscsi_address())?;
        let first = number * REGION_BLOCKS;
        Ok(Session { target, disk, random, first, ways, client, tasks: Vec::new() })
    }

    fn run(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            let depth = 1 + self.random.below(DEPTH_MAX) as usize;
            while self.tasks.len() < depth {
                self.start()?;
            }
            self.disturb()?;
            for _ in 0..1 + self.random.below(depth as u64) {
                self.take()?;
            }
        }
        while !self.tasks.is_empty() {
            self.take()?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let length = self.length();
        if self.random.below(5) < 2 {
            let first = self.random.below((SESSIONS * REGION_BLOCKS - length) as u64) as usize;
            let before = self.disk.lock().before(first, length);
            let cdb = read_10(first as u32, length as u16);
            let command = self.client.command(&cdb, Data::In((length * BLOCK) as u32));
            let command = self.attribute(command);
            self.client.send(&command)?;
            let data = vec![0; length * BLOCK];
            self.tasks.push(Task { command, work: Work::Read { before, data }, asked: Vec::new() });
            return Ok(());
        }
        let first = self.first + self.random.below((REGION_BLOCKS - length) as u64) as usize;
        let (id, data) = self.disk.lock().write(first, length);
        let mut cdb = write_10(first as u32, length as u16);
        cdb[1] |= if self.random.below(20) == 0 { 8 } else { 0 };
        let command = self.send_write(&cdb, &data)?;
        self.tasks.push(Task { command, work: Work::Write { id, data }, asked: Vec::new() });
        Ok(())
    }

    /// Small ones mostly, up to 4 MiB.
    fn length(&mut self) -> usize {
        let bits = self.random.below(LENGTH_MAX.ilog2().into()) / (1 + self.random.below(3));
        1 + self.random.below(1 << (bits + 1)) as usize
    }

    fn attribute(&mut self, mut command: Pdu) -> Pdu {
        const ORDERED: u8 = 2;
        if self.random.below(40) == 0 {
            command.header[1] = command.header[1] & !7 | ORDERED;
        }
        command
    }

    /// A write with as much data beside it as was agreed, or less.
    fn send_write(&mut self, cdb: &[u8], data: &[u8]) -> Result<Pdu> {
        let immediate = self.some(self.ways.immediate_max.min(data.len()));
        let unsolicited = self.ways.unsolicited_max.min(data.len());
        let is_more = unsolicited > immediate && self.random.below(3) > 0;
        let command = self.client.command(cdb, Data::Out(data.len() as u32, &data[..immediate]));
        let mut command = self.attribute(command);
        if is_more {
            command.header[1] &= 0x7f;
        }
        self.client.send(&command)?;
        if is_more {
            let end = immediate + WORD + self.some(unsolicited - immediate - WORD);
            self.send_data(&command, NO_TAG, data, immediate, end)?;
        }
        Ok(command)
    }

    /// All, none, or something in between: whole words, so that none is torn.
    fn some(&mut self, max: usize) -> usize {
        match self.random.below(4) {
            0 => 0,
            1 => self.random.below(max as u64 + 1) as usize / WORD * WORD,
            _ => max,
        }
    }

    fn send_data(&mut self, command: &Pdu, tag: u32, data: &[u8], start: usize, end: usize) -> Result<()> {
        let mut at = start;
        let mut number = 0;
        while at < end {
            let len = (end - at).min(WORD * (1 + self.random.below(16 << 10) as usize));
            let flags = if at + len == end { 0x80 } else { 0 };
            let pdu = self.client.data_out(command, tag, number, at as u32, &data[at..at + len]).flags(flags);
            self.client.send(&pdu)?;
            at += len;
            number += 1;
        }
        Ok(())
    }

    /// Now and then something goes wrong.
    fn disturb(&mut self) -> Result<()> {
        match self.random.below(400) {
            0..20 => self.abort(),
            20..23 => self.manage(function::ABORT_TASK_SET),
            23..25 => self.manage(function::LUN_RESET),
            25..28 => self.vanish(),
            28..60 => self.client.send(&self.probe_pdu()),
            _ => Ok(()),
        }
    }

    /// An answer that nobody waits for.
    fn probe_pdu(&self) -> Pdu {
        let pdu = Pdu::new(request::NOP_OUT | request::IMMEDIATE).flags(0x80).tag(0x7000_0000);
        pdu.word(20, NO_TAG).data(vec![7; 100])
    }

    fn abort(&mut self) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.tasks.len() as u64) as usize;
        let tag = self.tasks[at].command.tag_of();
        let command = self.tasks[at].command.clone();
        let request = self.client.request_management(function::ABORT_TASK, Some(&command))?;
        self.await_management(&request)?;
        if let Some(at) = self.find(tag) {
            self.lose(at);
        }
        Ok(())
    }

    fn manage(&mut self, function: u8) -> Result<()> {
        let before: Vec<u32> = self.tasks.iter().map(|task| task.command.tag_of()).collect();
        let request = self.client.request_management(function, None)?;
        self.await_management(&request)?;
        for tag in before {
            if let Some(at) = self.find(tag) {
                self.lose(at);
            }
        }
        Ok(())
    }

    fn await_management(&mut self, request: &Pdu) -> Result<()> {
        loop {
            let pdu = self.client.receive_answering()?;
            if pdu.opcode() == response::MANAGEMENT && pdu.tag_of() == request.tag_of() {
                ensure!(pdu.header[2] <= 1, "task management: {pdu:?}");
                return Ok(());
            }
            self.heed(pdu)?;
        }
    }

    /// The connection is cut in the middle of things, and the session replaced.
    fn vanish(&mut self) -> Result<()> {
        if self.random.below(2) == 0 {
            let cut = self.client.frame(&self.client.data_out(&self.probe_pdu(), NO_TAG, 0, 0, &[9; 4000]));
            self.client.send_bytes(&cut[..cut.len() / 2])?;
        }
        self.client = self.ways.login.attach(self.target.iscsi_address())?;
        while !self.tasks.is_empty() {
            self.lose(0);
        }
        Ok(())
    }

    /// Takes one PDU. Where another session's reset has ended all of this one's, a probe finds out.
    fn take(&mut self) -> Result<()> {
        if self.tasks.is_empty() {
            return Ok(());
        }
        if self.client.is_quiet()? {
            self.answer_r2ts()?;
        }
        let began = Instant::now();
        while self.client.is_quiet()? {
            if began.elapsed() > Duration::from_millis(500) {
                ensure!(
                    self.tasks.iter().filter(|task| matches!(task.work, Work::Probe)).count() < 20,
                    "silence"
                );
                let command = self.client.start(&[0; 6], Data::None)?;
                self.tasks.push(Task { command, work: Work::Probe, asked: Vec::new() });
                break;
            }
            sleep(Duration::from_micros(50));
        }
        let pdu = self.client.receive_answering()?;
        self.heed(pdu)
    }

    fn heed(&mut self, pdu: Pdu) -> Result<()> {
        if pdu.opcode() == response::NOP_IN {
            return Ok(());
        }
        let at = self.find(pdu.tag_of()).with_context(|| format!("for nobody: {pdu:?}"))?;
        match pdu.opcode() {
            response::R2T => self.tasks[at].asked.push(pdu),
            response::DATA_IN => self.data_in(at, &pdu)?,
            response::COMMAND => self.answered(at, &pdu)?,
            _ => bail!("unexpected {pdu:?}"),
        }
        if self.random.below(3) > 0 { self.answer_r2ts() } else { Ok(()) }
    }

    /// Answers the R2Ts of all tasks, in any order.
    fn answer_r2ts(&mut self) -> Result<()> {
        for at in 0..self.tasks.len() {
            while !self.tasks[at].asked.is_empty() {
                let number = self.random.below(self.tasks[at].asked.len() as u64) as usize;
                let r2t = self.tasks[at].asked.swap_remove(number);
                let (start, len) = (r2t.word_at(40) as usize, r2t.word_at(44) as usize);
                let command = self.tasks[at].command.clone();
                let Work::Write { data, .. } = &mut self.tasks[at].work else { bail!("unasked {r2t:?}") };
                ensure!(start + len <= data.len(), "{r2t:?} asks for too much");
                let data = std::mem::take(data);
                let sent = self.send_data(&command, r2t.word_at(20), &data, start, start + len);
                if let Work::Write { data: place, .. } = &mut self.tasks[at].work {
                    *place = data;
                }
                sent?;
            }
        }
        Ok(())
    }

    fn data_in(&mut self, at: usize, pdu: &Pdu) -> Result<()> {
        let Work::Read { data, .. } = &mut self.tasks[at].work else { bail!("unasked {pdu:?}") };
        let start = pdu.word_at(40) as usize;
        let place = data.get_mut(start..start + pdu.data.len()).context("Data-In beyond its buffer")?;
        place.copy_from_slice(&pdu.data);
        if pdu.header[1] & 1 == 0 {
            return Ok(());
        }
        ensure!(pdu.header[3] == 0, "{pdu:?}");
        self.good(at)
    }

    fn answered(&mut self, at: usize, pdu: &Pdu) -> Result<()> {
        let status = pdu.header[3];
        if status == 0 {
            return self.good(at);
        }
        let key = pdu.data.get(4).map_or(0, |byte| byte & 0xf);
        ensure!(status == CHECK_CONDITION && key == UNIT_ATTENTION, "{pdu:?}");
        // A reset: what came before this command is gone, this one was not carried out.
        let number = self.tasks[at].command.word_at(24);
        if let Work::Write { id, .. } = self.tasks[at].work {
            self.disk.lock().refused(id);
        }
        self.tasks.swap_remove(at);
        while let Some(at) = self.tasks.iter().position(|task| task.command.word_at(24) < number) {
            self.lose(at);
        }
        Ok(())
    }

    fn good(&mut self, at: usize) -> Result<()> {
        let task = self.tasks.swap_remove(at);
        match task.work {
            Work::Read { before, data } => self.disk.lock().check_settled(&before, &data),
            Work::Write { id, .. } => {
                self.disk.lock().acknowledged(id);
                Ok(())
            }
            Work::Probe => Ok(()),
        }
    }

    fn lose(&mut self, at: usize) {
        if let Work::Write { id, .. } = self.tasks.swap_remove(at).work {
            self.disk.lock().aborted(id);
        }
    }

    fn find(&self, tag: u32) -> Option<usize> {
        self.tasks.iter().position(|task| task.command.tag_of() == tag)
    }
}

impl Ways {
    fn draw(random: &mut Random, number: usize) -> Ways {
        let mut choose = |choices: &[&'static str]| choices[random.below(choices.len() as u64) as usize];
        let immediate = choose(&["Yes", "Yes", "No"]);
        let initial_r2t = choose(&["Yes", "No", "No"]);
        let first_burst = choose(&["512", "4096", "65536", "100000", "262144"]);
        let digests = choose(&["None", "None", "CRC32C"]);
        let login = Login::to(&target_name("disk")).isid(100 + number as u32);
        let login = login
            .key("ImmediateData", immediate)
            .key("InitialR2T", initial_r2t)
            .key("FirstBurstLength", first_burst)
            .key("MaxBurstLength", choose(&["262144", "300000", "1048576"]))
            .key("MaxOutstandingR2T", choose(&["1", "3", "8"]))
            .key("MaxRecvDataSegmentLength", choose(&["512", "8192", "262144"]))
            .key("DataDigest", digests)
            .key("HeaderDigest", choose(&["None", "CRC32C"]));
        let first_burst: usize = first_burst.parse().expect("a number");
        let max = |allowed| if allowed { first_burst } else { 0 };
        Ways { login, immediate_max: max(immediate == "Yes"), unsolicited_max: max(initial_r2t == "No") }
    }
}

/// Reads over NBD what the sessions write.
fn witness(target: &Target, disk: &Disk, seed: u64, end: Instant) -> Result<()> {
    let mut client = nbd::Client::attach(target.address(), "disk")?;
    let mut random = Random(seed);
    while Instant::now() < end {
        let length = 1 + random.below(512) as usize;
        let first = random.below((SESSIONS * REGION_BLOCKS - length) as u64) as usize;
        let before = disk.lock().before(first, length);
        let data = client.read((first * BLOCK) as u64, (length * BLOCK) as u32)?;
        disk.lock().check(&before, &data).context("over NBD")?;
    }
    Ok(())
}

/// When all is still, both fronts read the same.
fn compare(target: &Target, disk: &Disk) -> Result<()> {
    let mut session = Client::attach(target.iscsi_address(), "disk")?;
    let mut client = nbd::Client::attach(target.address(), "disk")?;
    for first in (0..SESSIONS * REGION_BLOCKS).step_by(2048) {
        let before = disk.lock().before(first, 2048);
        let data = session.read(first as u32, 2048)?;
        disk.lock().check_settled(&before, &data).context("at the end")?;
        ensure!(client.read((first * BLOCK) as u64, MIB as u32)? == data, "NBD reads something else");
    }
    session.logout()
}

fn run(backing: usize, configure: impl FnOnce(Launch) -> Launch) -> Result<()> {
    let number = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let seed = number("RINGSAN_MODEL_SEED", 1) * 1000 + backing as u64 * 100;
    let scratch = Scratch::new()?;
    let spec = backings(&scratch, 64 * MIB)[backing].clone();
    let mut target = configure(Launch::new(&scratch).iscsi().volume(spec)).start()?;
    let disk = Disk(Arc::new(Mutex::new(History::new(64 << 11))));
    let end = Instant::now() + Duration::from_secs(number("RINGSAN_MODEL_SECONDS", 5));
    std::thread::scope(|scope| -> Result<()> {
        let (target, disk) = (&target, &disk);
        let session = |number| move || Session::begin(target, disk.clone(), number, seed)?.run(end);
        let mut all: Vec<_> = (0..SESSIONS).map(|number| scope.spawn(session(number))).collect();
        all.push(scope.spawn(move || witness(target, disk, seed, end)));
        let ended: Vec<_> = all.into_iter().map(|one| one.join().expect("it does not panic")).collect();
        ended.into_iter().collect()
    })
    .with_context(|| format!("RINGSAN_MODEL_SEED={}", seed / 1000))?;
    target.assert_alive()?;
    compare(&target, &disk)?;
    target.await_clients(0)?;
    target.stop()?;
    Ok(())
}

#[test]
fn memory_holds_what_the_model_allows() -> Result<()> {
    run(0, |launch| launch)
}

#[test]
fn a_direct_file_holds_what_the_model_allows() -> Result<()> {
    run(1, |launch| launch)
}

#[test]
fn a_buffered_file_holds_what_the_model_allows() -> Result<()> {
    run(2, |launch| launch)
}

#[test]
fn a_disk_served_with_little_memory_holds_what_the_model_allows() -> Result<()> {
    run(1, |launch| launch.tables("[cores]\narena = \"4M\"").iscsi_setting("inflight_bytes_max = \"1M\""))
}
