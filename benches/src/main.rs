//! Harness.
#![forbid(unsafe_code)]
mod address; mod connection; mod cpu; mod floor; mod generator; mod load; mod outgoing; mod protocol; mod replies; mod tally;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == "floor" {
        cpu::pin(1)?;
        let mut l = load::Load::random_4k(args[2].parse()?, 32);
    if let Some(c) = args.get(3) { l.connections = c.parse()?; }
    if let Some(c) = args.get(4) { l.block_bytes = c.parse()?; }
        return floor::serve(&std::net::TcpListener::bind("127.0.0.1:7000")?, floor::Echo::of(&l).unwrap());
    }
    cpu::pin(0)?;
    let address: address::Address = args[2].parse()?;
    let mut l = load::Load::random_4k(args[3].parse()?, args[4].parse()?);
    if args[5] == "sleep" { l.waiting = load::Waiting::Sleep }
    if args[6] == "single" { l.sending = load::Sending::Single }
    if let Some(c) = args.get(7) { l.connections = c.parse()?; }
    if let Some(c) = args.get(8) { l.block_bytes = c.parse()?; }
    let mut g = generator::Generator::open(&address, &l)?;
    g.run(generator::Until::Elapsed(std::time::Duration::from_millis(200)))?;
    let t = g.run(generator::Until::Elapsed(std::time::Duration::from_millis(1000)))?;
    println!("{:.0} iops {:?} errors {}", t.iops(), t.latency(), t.errors);
    Ok(())
}
