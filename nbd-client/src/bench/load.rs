//! Keeps requests in flight for the asked time, and counts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Load;
use super::pattern::{Random, Steps};
use super::tally::{Outcome, Tally};
use crate::{Client, ConnectOptions, Error, Export, Kind, Uri, runtime};

/// For replies that are still out when the time is over.
const REPLY_PATIENCE: Duration = Duration::from_secs(3);
/// The same, when somebody wants an end now.
const STOP_PATIENCE: Duration = Duration::from_millis(300);
/// How often is looked whether it is over.
const TICK: Duration = Duration::from_millis(50);

/// Puts `load` on the export; to be called on a thread that runs no other tasks. `stop` ends it early, and what
/// was counted until then counts.
pub fn run(uri: &Uri, load: &Load, stop: &Arc<AtomicBool>) -> Result<Outcome, Error> {
    let threads = load.threads.clamp(1, load.connections.max(1));
    let failed = Arc::new(AtomicBool::new(false));
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let (uri, load, stops) = (uri.clone(), load.clone(), [Arc::clone(stop), Arc::clone(&failed)]);
            thread::spawn(move || {
                let result = runtime::block_on(drive(&uri, &load, (thread, threads), &stops));
                stops[1].fetch_or(result.is_err(), Ordering::Relaxed);
                result
            })
        })
        .collect();
    let mut total = Tally::new(load.time);
    let (mut longest, mut failure) = (Duration::ZERO, None);
    for thread in running {
        match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok((tally, time)) => {
                total.add(&tally);
                longest = longest.max(time);
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or_else(|| total.outcome(load.block_bytes, longest).checked(), Err)
}

/// One thread's connections.
async fn drive(
    uri: &Uri,
    load: &Load,
    (thread, threads): (usize, usize),
    stops: &[Arc<AtomicBool>; 2],
) -> Result<(Tally, Duration), Error> {
    let Some(clients) = connect(uri, load, (thread, threads), stops).await? else {
        return Ok((Tally::new(load.time), Duration::ZERO));
    };
    let begin = Instant::now() + load.warm_up;
    let counters = Rc::new(Counters {
        begin,
        ends: begin + load.time,
        is_over: Cell::new(false),
        stopped: Cell::new(None),
        tally: RefCell::new(Tally::new(load.time)),
    });
    let mut tasks = Vec::new();
    for (connection, client) in &clients {
        let share = *connection as f64 / load.connections as f64;
        let seed = load.seed.wrapping_add(*connection as u64);
        let size_bytes = client.export().size_bytes;
        let steps = Steps::new(load.pattern, size_bytes, u64::from(load.block_bytes), share, seed);
        let steps = Rc::new(RefCell::new(steps));
        for _ in 0..load.depth {
            let block = Random(seed ^ 0x5eed).bytes(load.block_bytes as usize);
            tasks.push(runtime::spawn(ask(client.clone(), Rc::clone(&steps), block, Rc::clone(&counters))));
        }
    }
    let watch = runtime::spawn(watch(Rc::clone(&counters), stops.clone()));
    let (result, unanswered) = gather(tasks, &counters).await;
    watch.abort();
    let time = counters.ends.min(Instant::now()).saturating_duration_since(counters.begin);
    for (_, client) in clients {
        // a server that owes replies would be waited for
        if unanswered == 0 {
            let _ = client.disconnect().await;
        }
    }
    let mut tally = counters.tally.replace(Tally::new(Duration::ZERO));
    tally.give_up(unanswered);
    result.map(|()| (tally, time))
}

/// This thread's connections, with their numbers; `None` if there is no time for them any more.
async fn connect(
    uri: &Uri,
    load: &Load,
    (thread, threads): (usize, usize),
    stops: &[Arc<AtomicBool>; 2],
) -> Result<Option<Vec<(usize, Client)>>, Error> {
    let mut clients = Vec::new();
    for connection in (thread..load.connections).step_by(threads) {
        let options = ConnectOptions {
            connections: 1,
            in_flight_max: load.depth,
            is_further: connection > 0,
            ..load.connect.clone()
        };
        let mut connected = Box::pin(Client::connect(uri, &options));
        let client = loop {
            match runtime::timeout(TICK, &mut connected).await {
                Ok(client) => break client?,
                Err(_) if is_stopped(stops) => return Ok(None),
                Err(_) => {}
            }
        };
        check(client.export(), load)?;
        clients.push((connection, client));
    }
    Ok(Some(clients))
}

/// Waits for all, but not for ever; also how many have a request that got no reply.
async fn gather(
    tasks: Vec<runtime::JoinHandle<Result<(), Error>>>,
    counters: &Counters,
) -> (Result<(), Error>, u64) {
    let (mut result, mut unanswered) = (Ok(()), 0);
    for mut task in tasks {
        loop {
            let is_late = Instant::now() >= counters.patience_ends();
            let tick = if is_late { Duration::ZERO } else { TICK };
            match runtime::timeout(tick, &mut task).await {
                Ok(end) => {
                    let end = end.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                    result = result.and(end);
                    break;
                }
                Err(_) if is_late => {
                    task.abort();
                    unanswered += 1;
                    break;
                }
                Err(_) => {}
            }
        }
    }
    (result, unanswered)
}

fn is_stopped(stops: &[Arc<AtomicBool>; 2]) -> bool {
    stops.iter().any(|stop| stop.load(Ordering::Relaxed))
}

/// What the requests of one thread share.
struct Counters {
    begin: Instant,
    ends: Instant,
    /// Stopped early.
    is_over: Cell<bool>,
    /// By whom: somebody who does not want to wait, and since when.
    stopped: Cell<Option<Instant>>,
    tally: RefCell<Tally>,
}

impl Counters {
    /// Until when replies are waited for.
    fn patience_ends(&self) -> Instant {
        let in_order = self.ends + REPLY_PATIENCE;
        self.stopped.get().map_or(in_order, |since| in_order.min(since + STOP_PATIENCE))
    }
}

/// One request after the other.
async fn ask(
    client: Client,
    steps: Rc<RefCell<Steps>>,
    mut block: Vec<u8>,
    counters: Rc<Counters>,
) -> Result<(), Error> {
    let mut now = Instant::now();
    while !counters.is_over.get() && now < counters.ends {
        let step = steps.borrow_mut().step();
        let (result, returned) = match step.is_write {
            true => client.write(step.offset, block, false).await,
            false => client.read(step.offset, block).await,
        };
        if result.is_err() {
            counters.is_over.set(true);
        }
        result?;
        block = returned;
        let done = Instant::now();
        if now >= counters.begin && done <= counters.ends {
            counters.tally.borrow_mut().count(step.is_write, done - now, done - counters.begin);
        }
        now = done;
    }
    Ok(())
}

/// Ends the load early if it is to be.
async fn watch(counters: Rc<Counters>, stops: [Arc<AtomicBool>; 2]) {
    while !counters.is_over.get() {
        if is_stopped(&stops) {
            counters.is_over.set(true);
            counters.stopped.set(Some(Instant::now()));
        }
        runtime::sleep(TICK).await;
    }
}

/// Whether the export can bear it.
fn check(export: &Export, load: &Load) -> Result<(), Error> {
    let sizes = export.block_sizes;
    let refuse = |what: String, remedy: &str| Err(Error::new(Kind::Request, what).remedy(remedy));
    if load.pattern.writes() && export.is_read_only() {
        return refuse(format!("{:?} is read-only", export.name), "only read from it: --rw randread");
    }
    if u64::from(load.block_bytes) > export.size_bytes {
        let what = format!("{:?} has {} bytes only", export.name, export.size_bytes);
        return refuse(what, "choose a smaller --bs");
    }
    if !load.block_bytes.is_multiple_of(sizes.min.max(1)) || load.block_bytes > sizes.payload_max {
        let what = format!(
            "{:?} takes multiples of {} bytes up to {}, not {}",
            export.name, sizes.min, sizes.payload_max, load.block_bytes
        );
        return refuse(what, "choose another --bs");
    }
    if load.connections > 1 && load.pattern.writes() && !export.can_multi_conn() {
        let what = format!("the server of {:?} does not let several connections write", export.name);
        return refuse(what, "use --connections 1");
    }
    Ok(())
}
