//! The operational keys of RFC 7143 §13, and those of RFC 3720 that it made obsolete.

/// A key that both sides negotiate or declare in the operational stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the standard's own")]
pub enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    TaskReporting,
    IscsiProtocolLevel,
    IfMarker,
    OfMarker,
    IfMarkInt,
    OfMarkInt,
}

const NAMES: [(Key, &str); 20] = [
    (Key::HeaderDigest, "HeaderDigest"),
    (Key::DataDigest, "DataDigest"),
    (Key::MaxConnections, "MaxConnections"),
    (Key::InitialR2T, "InitialR2T"),
    (Key::ImmediateData, "ImmediateData"),
    (Key::MaxRecvDataSegmentLength, "MaxRecvDataSegmentLength"),
    (Key::MaxBurstLength, "MaxBurstLength"),
    (Key::FirstBurstLength, "FirstBurstLength"),
    (Key::DefaultTime2Wait, "DefaultTime2Wait"),
    (Key::DefaultTime2Retain, "DefaultTime2Retain"),
    (Key::MaxOutstandingR2T, "MaxOutstandingR2T"),
    (Key::DataPduInOrder, "DataPDUInOrder"),
    (Key::DataSequenceInOrder, "DataSequenceInOrder"),
    (Key::ErrorRecoveryLevel, "ErrorRecoveryLevel"),
    (Key::TaskReporting, "TaskReporting"),
    (Key::IscsiProtocolLevel, "iSCSIProtocolLevel"),
    (Key::IfMarker, "IFMarker"),
    (Key::OfMarker, "OFMarker"),
    (Key::IfMarkInt, "IFMarkInt"),
    (Key::OfMarkInt, "OFMarkInt"),
];

impl Key {
    /// By its name, in which case matters.
    pub fn from_name(name: &str) -> Option<Key> {
        NAMES.iter().find(|(_, other)| *other == name).map(|(key, _)| *key)
    }

    /// As the standard writes it.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(key, _)| *key == self);
        found.expect("every key has a name").1
    }

    /// Whether it says nothing about a discovery session, which moves no SCSI data.
    pub(super) fn needs_normal_session(self) -> bool {
        use Key::*;
        matches!(
            self,
            MaxConnections
                | InitialR2T
                | ImmediateData
                | MaxBurstLength
                | FirstBurstLength
                | MaxOutstandingR2T
                | DataPduInOrder
                | DataSequenceInOrder
                | TaskReporting
                | IscsiProtocolLevel
        )
    }

    /// The values that the standard allows, for keys with numbers.
    pub(super) fn range(self) -> std::ops::RangeInclusive<u64> {
        match self {
            Key::MaxRecvDataSegmentLength | Key::MaxBurstLength | Key::FirstBurstLength => 512..=0x00ff_ffff,
            Key::MaxConnections | Key::MaxOutstandingR2T => 1..=65_535,
            Key::DefaultTime2Wait | Key::DefaultTime2Retain => 0..=3600,
            Key::ErrorRecoveryLevel => 0..=2,
            Key::IscsiProtocolLevel => 0..=31,
            _ => panic!("{} is no number", self.name()),
        }
    }
}
