//! The node's counters as Prometheus text.
//!
//! Cores keep plain counters; a scrape copies them and renders them here. Its one rule: base units,
//! `_total` on counters, and names that do not change.

mod mirror;

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use uuid::Uuid;

use crate::settings::Protocol;
use crate::snapshot::{CoreSnapshot, OperationCounters, VolumeSnapshot};

/// The content type of `text`.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of `classic_text`.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BOUNDS: [f64; 20] = [
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// What a scrape shows.
#[derive(Debug)]
pub struct Scrape {
    /// The node's name.
    pub node: String,
    /// The node's identity.
    pub uuid: Uuid,
    /// Since its start.
    pub uptime_seconds: f64,
    /// Volumes that should be served and are not.
    pub unavailable: Vec<String>,
    /// iSCSI sessions of each target.
    pub sessions: BTreeMap<String, u64>,
    /// Its cores' counters.
    pub cores: Vec<CoreSnapshot>,
}

/// `scrape` in Prometheus' older format, which names families as their samples and knows no units.
pub fn classic_text(scrape: Scrape) -> String {
    let text = text(scrape);
    let kind_of = |family: &str| {
        text.lines().find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(family)?.strip_prefix(' '))
    };
    let suffix = |family: &str| match kind_of(family) {
        Some("counter") => "_total",
        Some("info") => "_info",
        _ => "",
    };
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(family), help) => {
                classic += &format!("# HELP {family}{} {}\n", suffix(family), help.unwrap_or_default());
            }
            (Some("#"), Some("TYPE"), Some(family), kind) => {
                let kind = kind.filter(|kind| *kind != "info").unwrap_or("gauge");
                classic += &format!("# TYPE {family}{} {kind}\n", suffix(family));
            }
            (Some("#"), ..) => {}
            _ => classic += &format!("{line}\n"),
        }
    }
    classic
}

/// `scrape` in the OpenMetrics format.
pub fn text(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("ringsan");
    registry.register_collector(Box::new(scrape));
    let mut rendered = String::new();
    text::encode(&mut rendered, &registry).expect("a String takes everything");
    rendered
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_node(&mut encoder)?;
        self.encode_cores(&mut encoder)?;
        self.encode_clients(&mut encoder)?;
        self.encode_volumes(&mut encoder)?;
        self.encode_operations(&mut encoder)?;
        self.encode_mirrors(&mut encoder)
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Scrape {
    fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_descriptor("build", "What was built", None, MetricType::Info)?.encode_info(&build)?;
        let uuid = self.uuid.to_string();
        let node = [("name", self.node.as_str()), ("uuid", uuid.as_str())];
        encoder
            .encode_descriptor("node", "Which node this is", None, MetricType::Info)?
            .encode_info(&node)?;
        let uptime = encoder.encode_descriptor(
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.uptime_seconds).encode(uptime)
    }

    fn encode_cores(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&CoreSnapshot) -> u64;
        let counters: [(&str, &str, Read); 4] = [
            ("core_system_calls", "System calls of the core's thread", |core| core.system_calls),
            ("core_polls", "Looks for completions without entering the kernel", |core| core.polls),
            ("core_sleeps", "Times the core slept for want of work", |core| core.sleeps),
            ("core_operations", "Operations started, disk and network", |core| core.operations),
        ];
        for (name, help, read) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for core in &self.cores {
                count(&mut family, &[("cpu", &core.cpu.to_string())], read(core))?;
            }
        }
        let bytes: [(&str, &str, Read); 2] = [
            ("core_arena", "Buffers of the core", |core| core.arena_bytes as u64),
            ("core_arena_used", "Buffers of the core that are in use", |core| core.arena_used_bytes as u64),
        ];
        for (name, help, read) in bytes {
            let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for core in &self.cores {
                gauge(&mut family, &[("cpu", &core.cpu.to_string())], read(core))?;
            }
        }
        let mut family =
            encoder.encode_descriptor("core_connections", "Clients on the core", None, MetricType::Gauge)?;
        for core in &self.cores {
            gauge(&mut family, &[("cpu", &core.cpu.to_string())], core.clients.len() as u64)?;
        }
        let help = "Clients turned away or dropped";
        let mut family = encoder.encode_descriptor("clients_dropped", help, None, MetricType::Counter)?;
        for core in &self.cores {
            for (reason, dropped) in &core.dropped {
                count(&mut family, &[("cpu", &core.cpu.to_string()), ("reason", reason)], *dropped)?;
            }
        }
        Ok(())
    }

    fn encode_clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor("clients", "Clients now", None, MetricType::Gauge)?;
        for protocol in [Protocol::Nbd, Protocol::Iscsi] {
            let clients = self.cores.iter().flat_map(|core| &core.clients);
            let number = clients.filter(|client| client.protocol == protocol).count();
            gauge(&mut family, &[("protocol", protocol.name())], number as u64)?;
        }
        let help = "iSCSI sessions of the target";
        let mut family = encoder.encode_descriptor("iscsi_sessions", help, None, MetricType::Gauge)?;
        for (target, sessions) in &self.sessions {
            gauge(&mut family, &[("target", target.as_str())], *sessions)?;
        }
        Ok(())
    }

    fn encode_volumes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How the volume's I/O is done";
        let mut family = encoder.encode_descriptor("volume", help, None, MetricType::Info)?;
        for volume in self.volumes() {
            let uuid = volume.uuid.to_string();
            let path = volume.facts.io_path.as_str();
            let labels: Labels<'_, 3> = [("volume", &volume.name), ("uuid", &uuid), ("io_path", path)];
            family.encode_info(&labels)?;
        }
        let mut family =
            encoder.encode_descriptor("volume_size", "Its size", Some(&Unit::Bytes), MetricType::Gauge)?;
        for volume in self.volumes() {
            gauge(&mut family, &[("volume", &volume.name)], volume.facts.size_bytes)?;
        }
        let help = "Whether clients can attach";
        let mut family = encoder.encode_descriptor("volume_up", help, None, MetricType::Gauge)?;
        for volume in self.volumes() {
            gauge(&mut family, &[("volume", &volume.name)], 1)?;
        }
        for volume in &self.unavailable {
            gauge(&mut family, &[("volume", volume)], 0)?;
        }
        let mut family =
            encoder.encode_descriptor("volume_connections", "Clients attached", None, MetricType::Gauge)?;
        for volume in self.volumes() {
            gauge(&mut family, &[("volume", &volume.name)], volume.connections as u64)?;
        }
        Ok(())
    }

    fn encode_operations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&OperationCounters) -> u64;
        let counters: [(&str, &str, Option<Unit>, Read); 3] = [
            ("volume_requests", "Requests answered, errors included", None, |counters| counters.requests),
            ("volume_errors", "Requests answered with an error", None, |counters| counters.errors),
            (
                "volume_transferred",
                "Bytes of requests answered without error",
                Some(Unit::Bytes),
                |counters| counters.bytes,
            ),
        ];
        for (name, help, unit, read) in &counters {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for volume in self.volumes() {
                for counters in &volume.operations {
                    let operation = counters.operation.name();
                    count(
                        &mut family,
                        &[("volume", &volume.name), ("operation", operation)],
                        read(counters),
                    )?;
                }
            }
        }
        let help = "From a request's arrival to its reply handed to the socket";
        let mut family =
            encoder.encode_descriptor("volume_latency", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for volume in self.volumes() {
            for counters in volume.operations.iter().filter(|counters| counters.requests > 0) {
                let labels: Labels<'_, 2> =
                    [("volume", &volume.name), ("operation", counters.operation.name())];
                let (sum, count, buckets) = buckets(&counters.latency_ns);
                family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn volumes(&self) -> impl Iterator<Item = &VolumeSnapshot> {
        self.cores.iter().flat_map(|core| &core.volumes)
    }
}

fn count<const N: usize>(family: &mut MetricEncoder<'_>, labels: &Labels<'_, N>, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(family.encode_family(labels)?)
}

fn gauge<const N: usize>(family: &mut MetricEncoder<'_>, labels: &Labels<'_, N>, value: u64) -> fmt::Result {
    ConstGauge::new(value as f64).encode(family.encode_family(labels)?)
}

/// Sum in seconds, count, and how many fell into each bucket (not cumulated; the encoder does that).
fn buckets(latency_ns: &Histogram<u64>) -> (f64, u64, Vec<(f64, u64)>) {
    let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
    let (mut sum, mut count) = (0.0, 0);
    for step in latency_ns.iter_recorded() {
        let seconds = latency_ns.median_equivalent(step.value_iterated_to()) as f64 / 1e9;
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        buckets[bucket].1 += step.count_at_value();
        sum += seconds * step.count_at_value() as f64;
        count += step.count_at_value();
    }
    (sum, count, buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::VolumeFacts;
    use crate::snapshot::Operation;

    pub(super) fn scrape() -> Scrape {
        let mut latency_ns = Histogram::new(3).expect("three digits");
        for nanoseconds in [4_000, 90_000, 90_000, 20_000_000_000] {
            latency_ns.record(nanoseconds).expect("in range");
        }
        let operation = Operation::Read;
        let read = OperationCounters { operation, requests: 4, bytes: 16384, errors: 1, latency_ns };
        let facts = VolumeFacts {
            size_bytes: 1 << 30,
            block_bytes: 512,
            preferred_bytes: 4096,
            io_path: "memory".into(),
            io_path_reason: String::new(),
            can_discard: true,
            can_fast_zero: true,
        };
        let volume = VolumeSnapshot {
            uuid: Uuid::nil(),
            name: "a\"b".into(),
            connections: 2,
            facts,
            operations: vec![read],
            mirror: None,
        };
        let core = CoreSnapshot {
            cpu: 1,
            system_calls: 7,
            polls: 8,
            sleeps: 9,
            operations: 10,
            arena_bytes: 1 << 20,
            arena_used_bytes: 4096,
            features: Vec::new(),
            volumes: vec![volume],
            clients: Vec::new(),
            dropped: vec![("limit", 3)],
        };
        Scrape {
            node: "n".into(),
            uuid: Uuid::nil(),
            uptime_seconds: 1.5,
            unavailable: vec!["gone".into()],
            sessions: BTreeMap::from([("iqn.2026-11.io.ringsan:a".into(), 2)]),
            cores: vec![core],
        }
    }

    #[test]
    fn names_units_and_labels_are_as_documented() {
        let text = text(scrape());
        for line in [
            "ringsan_uptime_seconds 1.5",
            "ringsan_core_system_calls_total{cpu=\"1\"} 7",
            "ringsan_core_arena_used_bytes{cpu=\"1\"} 4096.0",
            "ringsan_clients_dropped_total{cpu=\"1\",reason=\"limit\"} 3",
            "ringsan_clients{protocol=\"nbd\"} 0.0",
            "ringsan_iscsi_sessions{target=\"iqn.2026-11.io.ringsan:a\"} 2.0",
            "ringsan_volume_size_bytes{volume=\"a\\\"b\"} 1073741824.0",
            "ringsan_volume_up{volume=\"gone\"} 0.0",
            "ringsan_volume_requests_total{volume=\"a\\\"b\",operation=\"read\"} 4",
            "ringsan_volume_transferred_bytes_total{volume=\"a\\\"b\",operation=\"read\"} 16384",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn the_older_format_names_families_as_their_samples() {
        let text = classic_text(scrape());
        for line in [
            "# TYPE ringsan_core_polls_total counter",
            "ringsan_core_polls_total{cpu=\"1\"} 8",
            "# TYPE ringsan_build_info gauge",
            "# TYPE ringsan_volume_latency_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    #[test]
    fn latency_buckets_cumulate_in_seconds() {
        let text = text(scrape());
        let bucket = |bound: &str, count: u64| {
            let line = format!(
                "ringsan_volume_latency_seconds_bucket{{le=\"{bound}\",volume=\"a\\\"b\",operation=\"read\"}} {count}"
            );
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        };
        bucket("0.000005", 1);
        bucket("0.00005", 1);
        bucket("0.0001", 3);
        bucket("10.0", 3);
        bucket("+Inf", 4);
    }
}
