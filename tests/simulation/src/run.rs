//! One run of one seed: clients work while things go wrong; then all is mended, and everything must be well.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::uring::Doorbell;
use reactor::{Arena, Core};
use replication::{PeerState, RoleState};

use crate::agenda::{Agenda, CoreId, Event, HostId, SECOND};
use crate::client::Clients;
use crate::dice::Dice;
use crate::disk::SECTOR_BYTES;
use crate::driver::{Line, SimulatedDriver};
use crate::faults::{END_OF_FAULT, Fault, LOOK, NEXT_FAULT};
use crate::history::{Asked, Request, tag_of};
use crate::host::{Clock, Host};
use crate::network::Network;
use crate::node::Node;
use crate::operator::STOP_BOUND;
use crate::plan::Plan;
use crate::processor::Processor;
use crate::timeline;
use crate::world::{SharedWorld, World};

/// After the last fault, so long until all is well again.
const RECOVERY: u64 = 60 * SECOND;
/// Then clients are done after so long.
const LAST_ANSWERS: u64 = 60 * SECOND;
/// No run needs so many; what does is going round in circles.
const EVENTS_MAX: u64 = 20_000_000;

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Stands for all that has happened.
    pub digest: u64,
    /// How much has happened.
    pub events: u64,
    /// Requests answered without an error, and with one.
    pub answered: [u64; 2],
    /// How many faults there were.
    pub faults: usize,
    /// In nanoseconds.
    pub simulated: u64,
    /// What was wrong, if anything was.
    pub failure: Option<String>,
}

/// A run.
pub struct Run {
    pub world: SharedWorld,
    pub dice: Dice,
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub clients: Rc<Clients>,
    client_core: (Core, Rc<Line>),
    /// Faults are still wanted.
    pub is_troubled: bool,
    /// All there were; those that last.
    pub faults: Vec<Option<Fault>>,
    /// When machines lost their power, and how many of these are accounted for.
    pub perils: Vec<u64>,
    pub perils_seen: usize,
    /// An operator has used force: since then copies may have gone different ways.
    pub fork: Option<u64>,
    pub has_forced: bool,
    pub era: Option<u64>,
    pub leaderless_since: Option<u64>,
    /// Nodes that were asked to stop, and when.
    pub stopping: Vec<(HostId, u64)>,
    pub roles: Vec<String>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic of a run is its outcome, and says nothing by itself.
pub fn hear_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IS_RUNNING.get() {
            return usual(panic);
        }
        timeline::line(|| format!("{panic}\n{}", Backtrace::force_capture()));
        PANIC.replace(Some(panic.to_string()));
    }));
}

/// Runs a seed.
pub fn run(seed: u64, nodes: Option<usize>) -> Outcome {
    let mut place = None;
    IS_RUNNING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| place.insert(Run::new(seed, nodes)).all()));
    IS_RUNNING.set(false);
    let failure = match result {
        Ok(result) => result.err(),
        Err(_) => Some(format!("a panic: {}", PANIC.take().unwrap_or_default())),
    };
    let Some(run) = place else {
        return Outcome { failure, ..Outcome::default() };
    };
    let mut outcome = Outcome {
        failure,
        answered: run.clients.answered.get(),
        faults: run.faults.len(),
        ..Outcome::default()
    };
    if let Ok(world) = run.world.try_borrow() {
        let agenda = &world.agenda;
        (outcome.digest, outcome.events, outcome.simulated) = (agenda.digest(), agenda.events(), agenda.now);
    }
    if outcome.failure.is_some() {
        // What has failed may be in no state to be taken apart.
        std::mem::forget(run);
    }
    outcome
}

impl Run {
    fn new(seed: u64, nodes: Option<usize>) -> Run {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice, nodes);
        let count = plan.shared.names.len();
        let agenda = Agenda::new(dice.child());
        let network = Network::new(plan.shape, count + 1);
        let cores = plan.shared.cores;
        let host = |place: usize, name, clock, cores_here: usize| {
            Host::new(name, place * cores..place * cores + cores_here, clock, plan.mood)
        };
        let nodes = plan.shared.names.iter().zip(&plan.clocks).enumerate();
        let mut hosts: Vec<Host> =
            nodes.map(|(place, (name, clock))| host(place, name, *clock, cores)).collect();
        hosts.push(host(count, "cl", Clock { start: 0, drift: 0 }, 1));
        let processors = (0..count * cores).map(|core| Processor::new(core / cores));
        let processors = processors.chain([Processor::new(count)]).collect();
        let world = Rc::new(RefCell::new(World { agenda, network, hosts, processors }));
        let client_core = client_core(&world, count);
        timeline::line(|| format!("{:?} {:?} {:?} {:?}", plan.shared, plan.shape, plan.habits, plan.mood));
        let clients = Clients::start(&client_core.0, &plan.shared, plan.habits, &mut dice.child());
        let nodes = (0..count).map(|host| Node::new(&world, &plan.shared, host)).collect();
        Run {
            world,
            plan,
            nodes,
            clients,
            client_core,
            is_troubled: true,
            faults: Vec::new(),
            perils: Vec::new(),
            perils_seen: 0,
            fork: None,
            has_forced: false,
            era: None,
            leaderless_since: None,
            stopping: Vec::new(),
            roles: vec![String::new(); count],
            dice,
        }
    }

    /// In nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.world.borrow().agenda.now
    }

    /// Asks a node to stop.
    pub fn stop(&mut self, host: HostId) {
        let now = self.now();
        self.nodes[host].stop(Duration::from_secs(2));
        self.stopping.push((host, now));
    }

    fn all(&mut self) -> Result<(), String> {
        for host in 0..self.nodes.len() {
            self.bring_up(host)?;
        }
        self.world.borrow_mut().agenda.at(0, Event::Plan(LOOK));
        self.world.borrow_mut().wake(self.nodes.len());
        self.trouble()?;
        self.recover()?;
        self.compare()?;
        self.say_goodbye()
    }

    /// Clients work while things go wrong.
    fn trouble(&mut self) -> Result<(), String> {
        if self.plan.begins_well && !self.go_on_until(RECOVERY, Run::is_whole)? {
            return Err(format!("a new volume is not whole after {RECOVERY} ns\n{}", self.describe()));
        }
        if self.plan.fault_pause > 0 {
            self.world.borrow_mut().agenda.after(SECOND, Event::Plan(NEXT_FAULT));
        }
        let until = self.now() + self.plan.trouble;
        self.go_on_until(until, |_| false)?;
        self.is_troubled = false;
        timeline::line(|| "ALL FAULTS END".to_owned());
        self.end_all_faults()
    }

    /// All is mended; the volume must be whole and in use again.
    fn recover(&mut self) -> Result<(), String> {
        let until = self.now() + RECOVERY;
        if !self.go_on_until(until, Run::is_whole)? {
            return Err(format!(
                "the volume is not whole {RECOVERY} ns after the last fault\n{}",
                self.describe()
            ));
        }
        self.clients.all_is_well();
        let until = self.now() + SECOND;
        self.go_on_until(until, |_| false)?;
        self.clients.finish();
        let until = self.now() + LAST_ANSWERS;
        if !self.go_on_until(until, |run| run.clients.have_left())? {
            return Err(format!("clients still wait for answers\n{}", self.describe()));
        }
        let until = self.now() + RECOVERY;
        match self.go_on_until(until, Run::is_at_rest)? {
            true => Ok(()),
            false => Err(format!("the volume does not come to rest\n{}", self.describe())),
        }
    }

    /// Whole, and the leader has nothing left to mend. (A follower may keep a mark that is worth nothing any more.)
    fn is_at_rest(run: &mut Run) -> bool {
        let is_idle = |status: replication::Status| status.requests == 0 && status.active_extents == 0;
        Run::is_whole(run)
            && run.nodes.iter().all(|node| node.status().is_some_and(is_idle) && node.payloads() == 0)
    }

    pub fn is_whole(run: &mut Run) -> bool {
        let all = run.nodes.len();
        let statuses: Vec<_> = run.nodes.iter().filter_map(|node| node.status()).collect();
        let leaders = statuses.iter().filter(|status| status.role == RoleState::Leads);
        let is_complete = |status: &&replication::Status| {
            status.in_sync.count() == all && status.peers.iter().all(|peer| peer.state == PeerState::InSync)
        };
        let followers = statuses.iter().filter(|status| status.role == RoleState::InSync).count();
        leaders.filter(is_complete).count() == 1 && followers == all - 1
    }

    /// All copies are the same, and are what clients may expect.
    fn compare(&mut self) -> Result<(), String> {
        self.look()?;
        self.end_of_fork();
        let copies: Vec<Vec<u8>> = self.nodes.iter().map(Node::backing).collect();
        let first = &copies[0];
        for (host, copy) in copies.iter().enumerate().skip(1) {
            let differs = |(a, b): (&[u8], &[u8])| a != b;
            let place = first.chunks(SECTOR_BYTES).zip(copy.chunks(SECTOR_BYTES)).position(differs);
            if let Some(sector) = place {
                return Err(format!("nodes 0 and {host} differ in sector {sector}\n{}", self.describe()));
            }
        }
        let tags: Result<Vec<u64>, String> =
            first.chunks(SECTOR_BYTES).enumerate().map(|(sector, bytes)| tag_of(bytes, sector)).collect();
        let tags = tags.map_err(|error| format!("in the end {error}"))?;
        let now = self.now();
        let sectors = tags.len();
        let mut history = self.clients.history.borrow_mut();
        history.requests.push(Request {
            asked: Asked::Read(tags),
            first: 0,
            sectors,
            durable: false,
            sent: now,
            answered: Some(now + 1),
        });
        history.check()
    }

    /// Every node stops in good order and gives back what it holds.
    fn say_goodbye(&mut self) -> Result<(), String> {
        while let Some(host) = (0..self.nodes.len()).find(|host| self.nodes[*host].is_up()) {
            self.nodes[host].stop(Duration::from_secs(2));
            let until = self.now() + STOP_BOUND;
            if !self.go_on_until(until, |run| run.nodes[host].has_stopped())? {
                return Err(format!("node {host} does not stop\n{}", self.describe()));
            }
            self.nodes[host].end()?;
            self.faults.push(Some(Fault::Kill(host)));
        }
        Ok(())
    }

    /// Lets things happen until then, or until `enough` says so.
    fn go_on_until(&mut self, until: u64, enough: impl Fn(&mut Run) -> bool) -> Result<bool, String> {
        let mut looked = 0;
        loop {
            let next = self.world.borrow_mut().agenda.next();
            let Some(event) = next else {
                return Err(format!("nothing happens any more\n{}", self.describe()));
            };
            self.happen(event)?;
            if let Some(scandal) = self.clients.scandal.borrow_mut().take() {
                return Err(scandal);
            }
            let (now, events) = {
                let world = self.world.borrow();
                (world.agenda.now, world.agenda.events())
            };
            if now > looked + SECOND / 20 {
                looked = now;
                if enough(self) {
                    return Ok(true);
                }
            }
            if now >= until {
                return Ok(false);
            }
            if events > EVENTS_MAX {
                return Err(format!("the run goes round in circles\n{}", self.describe()));
            }
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let now = self.now();
        timeline::scene(now, "");
        match event {
            Event::Step { core, boot } => {
                let host = self.world.borrow().processors[core].host;
                self.step(host, core, boot);
                if self.nodes.get_mut(host).is_some_and(Node::has_new_era) {
                    self.watch_era()?;
                }
            }
            Event::Arrive { connection, side } => {
                let mut world = self.world.borrow_mut();
                let world = &mut *world;
                world.network.arrive(&mut world.agenda, connection, side);
                world.settle();
            }
            Event::Syn { connection } => {
                let mut world = self.world.borrow_mut();
                let world = &mut *world;
                world.network.syn(&mut world.agenda, connection);
                world.settle();
            }
            Event::Disk { core, boot, token } => self.world.borrow_mut().disk(core, boot, token),
            Event::Plan(NEXT_FAULT) if self.is_troubled => self.next_fault()?,
            Event::Plan(NEXT_FAULT) => {}
            Event::Plan(LOOK) => self.look()?,
            Event::Plan(number) => self.end_of_fault((number - END_OF_FAULT) as usize)?,
        }
        Ok(())
    }

    fn step(&mut self, host: HostId, core: CoreId, boot: u32) {
        let (now, name, place) = {
            let mut world = self.world.borrow_mut();
            let World { agenda, hosts, processors, .. } = &mut *world;
            let (machine, processor) = (&hosts[host], &mut processors[core]);
            if machine.boot != boot || !machine.is_live || processor.next_step != agenda.now {
                return;
            }
            processor.next_step = u64::MAX;
            if machine.is_frozen {
                return;
            }
            (agenda.now, machine.name, core - machine.cores.start)
        };
        timeline::scene(now, name);
        let stepped = match self.nodes.get(host) {
            Some(node) => node.core(place),
            None => Some(self.client_core.clone()),
        };
        let Some((stepped, line)) = stepped else { return };
        let more = stepped.step();
        line.hear();
        let mut world = self.world.borrow_mut();
        if more {
            world.step_soon(core);
        }
        world.answer_doorbells(host);
        if let Some(timer) = stepped.next_timer() {
            let when = world.hosts[host].clock.when(timer.0).max(now + 1);
            world.step_at(core, when);
        }
    }

    /// How things stand, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (host, node) in self.nodes.iter().enumerate() {
            match node.status() {
                Some(status) => {
                    text += &format!("  node {host}: {status:?}\n    {}\n", node.explain().join("\n    "))
                }
                None => text += &format!("  node {host}: down\n"),
            }
        }
        let history = self.clients.history.borrow();
        let open = history.requests.iter().filter(|request| request.answered.is_none()).count();
        text + &format!("  {open} requests of {} have no good answer", history.requests.len())
    }
}

fn client_core(world: &SharedWorld, host: HostId) -> (Core, Rc<Line>) {
    {
        let machine = &mut world.borrow_mut().hosts[host];
        machine.boot = 1;
        machine.is_live = true;
    }
    let arena = Arena::new(8 << 20).expect("memory for clients");
    let core = world.borrow().hosts[host].cores.start;
    let doorbell = Doorbell::new().expect("a descriptor is left");
    let driver = SimulatedDriver::new(world, core, &doorbell);
    let line = driver.line();
    (Core::new(Box::new(driver), arena), line)
}

impl Fault {
    /// Whether it keeps a node from being started.
    pub fn keeps_down(self, host: HostId) -> bool {
        match self {
            Fault::Kill(down) | Fault::PowerLoss(down) | Fault::Stop(down) => down == host,
            Fault::Blackout => true,
            _ => false,
        }
    }
}
