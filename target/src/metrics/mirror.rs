//! What the metrics tell of mirrors: roles, in-sync sets, resyncs, links, and where a write's time goes.
//!
//! Its one rule: a state is one sample a state, of which one is 1, so that a board can draw it.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use replication::{PeerState, PeerStatus, RoleState};

use super::{Labels, Scrape, buckets, count, gauge};
use crate::snapshot::{LinkSnapshot, MirrorSnapshot, Stage};
use crate::status::mirror::{leads, name_of, peer_state_name, role_name};

const ROLES: [RoleState; 12] = [
    RoleState::New,
    RoleState::Leads,
    RoleState::Suspended,
    RoleState::Begins,
    RoleState::StepsDown,
    RoleState::InSync,
    RoleState::Joining,
    RoleState::Consistent,
    RoleState::Outdated,
    RoleState::Mixed,
    RoleState::SplitBrain,
    RoleState::Failed(replication::DiskFault::Io),
];
const PEER_STATES: [PeerState; 5] =
    [PeerState::Absent, PeerState::Connected, PeerState::Resyncing, PeerState::InSync, PeerState::SplitBrain];

impl Scrape {
    pub(super) fn encode_mirrors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.mirrors().next().is_none() {
            return Ok(());
        }
        self.encode_mirror_records(encoder)?;
        self.encode_mirror_states(encoder)?;
        self.encode_peers(encoder)?;
        self.encode_links(encoder)?;
        self.encode_verifications(encoder)?;
        self.encode_stages(encoder)
    }

    fn encode_mirror_records(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&MirrorSnapshot) -> u64;
        let gauges: [(&str, &str, Read); 6] = [
            ("mirror_epoch", "The latest epoch known", |mirror| mirror.status.epoch.0),
            ("mirror_leader", "Whether this node leads the volume", |mirror| {
                u64::from(leads(mirror.status.role))
            }),
            ("mirror_replicas", "Replicas of the volume", |mirror| mirror.status.names.len() as u64),
            (
                "mirror_in_sync_replicas",
                "Replicas in the latest in-sync set that this node knows",
                |mirror| mirror.status.in_sync.count() as u64,
            ),
            ("mirror_requests", "Requests under way and waiting", |mirror| mirror.status.requests as u64),
            ("mirror_active_extents", "Extents that the activity log marks", |mirror| {
                mirror.status.active_extents as u64
            }),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (volume, mirror) in self.mirrors() {
                gauge(&mut family, &[("volume", volume)], read(mirror))?;
            }
        }
        Ok(())
    }

    fn encode_mirror_states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What this node's replica does: 1 for the role that it has";
        let mut family = encoder.encode_descriptor("mirror_role", help, None, MetricType::Gauge)?;
        for (volume, mirror) in self.mirrors() {
            for role in ROLES.map(role_name) {
                let is_so = u64::from(role == role_name(mirror.status.role));
                gauge(&mut family, &[("volume", volume), ("role", role)], is_so)?;
            }
        }
        let help = "How the peer stands, as this node sees it: 1 for the state that it is in";
        let mut family = encoder.encode_descriptor("mirror_peer_state", help, None, MetricType::Gauge)?;
        for (volume, peer, status) in self.peers() {
            for state in PEER_STATES {
                let labels = [("volume", volume), ("peer", &peer), ("state", peer_state_name(state))];
                gauge(&mut family, &labels, u64::from(state == status.state))?;
            }
        }
        Ok(())
    }

    fn encode_peers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether the peer is in the in-sync set";
        let mut family = encoder.encode_descriptor("mirror_peer_in_sync", help, None, MetricType::Gauge)?;
        for (volume, peer, status) in self.peers() {
            gauge(&mut family, &[("volume", volume), ("peer", &peer)], u64::from(status.in_sync))?;
        }
        type Read = fn(&PeerStatus) -> u64;
        let bytes: [(&str, &str, Read); 3] = [
            ("mirror_resync", "What the peer may lack, and has yet to receive", |peer| peer.resync_bytes),
            ("mirror_resynced", "What was sent of the resync under way", |peer| peer.resynced_bytes),
            ("mirror_lag", "Writes on their way to the peer", |peer| peer.lag_bytes),
        ];
        for (name, help, read) in bytes {
            let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for (volume, peer, status) in self.peers() {
                gauge(&mut family, &[("volume", volume), ("peer", &peer)], read(status))?;
            }
        }
        Ok(())
    }

    fn encode_links(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether there is a link to the peer";
        let mut family = encoder.encode_descriptor("mirror_link_up", help, None, MetricType::Gauge)?;
        for (volume, link) in self.links() {
            gauge(&mut family, &[("volume", volume), ("peer", &link.peer)], u64::from(link.is_up))?;
        }
        type Read = fn(&LinkSnapshot) -> u64;
        let counters: [(&str, &str, Option<Unit>, Read); 4] = [
            ("mirror_links", "Links made to the peer", None, |link| link.links),
            ("mirror_link_corrupt", "Links ended by a corrupt or foreign frame", None, |link| link.corrupt),
            ("mirror_link_sent", "Sent to the peer", Some(Unit::Bytes), |link| link.sent_bytes),
            ("mirror_link_received", "Received from it", Some(Unit::Bytes), |link| link.received_bytes),
        ];
        for (name, help, unit, read) in &counters {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for (volume, link) in self.links() {
                count(&mut family, &[("volume", volume), ("peer", &link.peer)], read(link))?;
            }
        }
        Ok(())
    }

    fn encode_verifications(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Regions that differed in the last comparison of replicas, and were not mended";
        let unit = Some(&Unit::Bytes);
        let mut family = encoder.encode_descriptor("mirror_differing", help, unit, MetricType::Gauge)?;
        for (volume, mirror) in self.mirrors() {
            let found = mirror.verification.as_ref().filter(|found| !found.repairs);
            gauge(&mut family, &[("volume", volume)], found.map_or(0, |found| found.differing_bytes))?;
        }
        Ok(())
    }

    fn encode_stages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Parts of the latency of mirrored writes that this node led";
        let mut family =
            encoder.encode_descriptor("mirror_stage", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (volume, mirror) in self.mirrors() {
            let stages = Stage::ALL.iter().zip(&mirror.stages);
            for (stage, latency_ns) in stages.filter(|(_, latency_ns)| !latency_ns.is_empty()) {
                let labels: Labels<'_, 2> = [("volume", volume), ("stage", stage.name())];
                let (sum, count, buckets) = buckets(latency_ns);
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn mirrors(&self) -> impl Iterator<Item = (&str, &MirrorSnapshot)> {
        self.volumes().filter_map(|volume| Some((volume.name.as_str(), volume.mirror.as_ref()?)))
    }

    fn peers(&self) -> impl Iterator<Item = (&str, String, &PeerStatus)> {
        self.mirrors().flat_map(|(volume, MirrorSnapshot { status, .. })| {
            status.peers.iter().map(move |peer| (volume, name_of(&status.names, peer.peer), peer))
        })
    }

    fn links(&self) -> impl Iterator<Item = (&str, &LinkSnapshot)> {
        self.mirrors().flat_map(|(volume, mirror)| mirror.links.iter().map(move |link| (volume, link)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scrape;
    use super::super::text;
    use crate::status::mirror::tests::leading;

    #[test]
    fn a_mirror_is_told_by_volume_peer_and_stage() {
        let mut scrape = scrape();
        let volume = &mut scrape.cores[0].volumes[0];
        volume.name = "db".into();
        volume.mirror = Some(leading());
        let text = text(scrape);
        for line in [
            "ringsan_mirror_epoch{volume=\"db\"} 5.0",
            "ringsan_mirror_leader{volume=\"db\"} 1.0",
            "ringsan_mirror_replicas{volume=\"db\"} 3.0",
            "ringsan_mirror_in_sync_replicas{volume=\"db\"} 2.0",
            "ringsan_mirror_role{volume=\"db\",role=\"leader\"} 1.0",
            "ringsan_mirror_role{volume=\"db\",role=\"split_brain\"} 0.0",
            "ringsan_mirror_peer_state{volume=\"db\",peer=\"c\",state=\"resync\"} 1.0",
            "ringsan_mirror_peer_state{volume=\"db\",peer=\"c\",state=\"in_sync\"} 0.0",
            "ringsan_mirror_peer_in_sync{volume=\"db\",peer=\"b\"} 1.0",
            "ringsan_mirror_resync_bytes{volume=\"db\",peer=\"c\"} 3145728.0",
            "ringsan_mirror_lag_bytes{volume=\"db\",peer=\"b\"} 8192.0",
            "ringsan_mirror_link_up{volume=\"db\",peer=\"b\"} 1.0",
            "ringsan_mirror_link_corrupt_total{volume=\"db\",peer=\"b\"} 1",
            "ringsan_mirror_link_sent_bytes_total{volume=\"db\",peer=\"b\"} 1048576",
            "ringsan_mirror_differing_bytes{volume=\"db\"} 0.0",
            "ringsan_mirror_stage_seconds_count{volume=\"db\",stage=\"order\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("stage=\"total\""), "a stage without writes is left out");
    }

    #[test]
    fn without_mirrors_nothing_is_said_of_them() {
        assert!(!text(scrape()).contains("mirror"));
    }
}
