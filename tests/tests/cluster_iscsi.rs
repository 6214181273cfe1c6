//! What initiators see of a mirrored volume.

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Plan};
use tests::iscsi::{Client, Data};

/// SYNCHRONIZE CACHE (10).
const SYNCHRONIZE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// UNIT ATTENTION, POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
const POWER_ON: (u8, u8, u8) = (6, 0x29, 0);

#[test]
fn an_initiator_is_told_once_of_writes_that_may_be_lost_with_their_leader() -> Result<()> {
    let Some(mut cluster) = Cluster::start(&Plan::new(2))? else { return Ok(()) };
    let log_in = |number: u8| cluster.node(1).log_in(&format!("iqn.2026-11.test:initiator{number}"));
    let mut sessions = [log_in(0)?, log_in(1)?];
    sessions[0].write(0, &[1; 4096])?;
    // an ordinary change of the leader loses nothing
    cluster.lead_by(1)?;
    cluster.lead_by(0)?;
    for session in &mut sessions {
        session.write(8, &[2; 4096])?;
    }
    cluster.node_mut(0).kill()?;
    cluster.await_control(1, &["promote", "db", "--force"])?;
    for session in &mut sessions {
        let code = synchronize(session)?;
        ensure!(code == Some(POWER_ON), "told {code:?}");
        ensure!(synchronize(session)?.is_none(), "told twice");
        session.write(16, &[3; 4096])?;
    }
    cluster.node_mut(0).start()?;
    cluster.await_in_sync()?;
    ensure!(synchronize(&mut sessions[0])?.is_none(), "a follower that joins loses nothing");
    cluster.stop_and_compare()
}

fn synchronize(session: &mut Client) -> Result<Option<(u8, u8, u8)>> {
    Ok(session.run(&SYNCHRONIZE, Data::None, &[])?.code())
}
