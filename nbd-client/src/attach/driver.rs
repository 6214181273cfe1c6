//! Conversations with the kernel's nbd driver: a question and its answer, and events as they come.
//!
//! Its one rule: errors are the kernel's own numbers; who asked knows what they mean.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_generic::ctrl::nlas::{GenlCtrlAttrs, McastGrpAttrs};
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::netlink::{Command, FAMILY, GROUP, Message};

/// Where the driver is asked.
pub(super) struct Driver {
    socket: Socket,
    family: u16,
    group: u32,
    sequence: u32,
}

impl Driver {
    /// Finds the driver, which the kernel loads if it can; else ENOENT.
    pub(super) fn open() -> io::Result<Driver> {
        let mut driver = Driver { socket: socket()?, family: 0, group: 0, sequence: 0 };
        let question = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
        };
        let answer = driver.converse(GenlMessage::from_payload(question))?;
        let (family, group) = answer.as_ref().and_then(family_and_group).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Driver { family, group, ..driver })
    }

    /// Asks, and waits for the answer: what the driver says, if it says more than that it is done.
    pub(super) fn ask(&mut self, question: Message) -> io::Result<Option<Message>> {
        let mut message = GenlMessage::from_payload(question);
        message.set_resolved_family_id(self.family);
        self.converse(message)
    }

    /// What the driver tells unasked, from now on.
    pub(super) fn events(&self) -> io::Result<Events> {
        let socket = socket()?;
        socket.add_membership(self.group)?;
        socket.set_non_blocking(true)?;
        Ok(Events { socket, family: self.family })
    }

    fn converse<M>(&mut self, message: GenlMessage<M>) -> io::Result<Option<M>>
    where
        M: GenlFamily + Debug,
        GenlMessage<M>: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence += 1;
        let mut question = NetlinkMessage::from(message);
        question.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        question.header.sequence_number = self.sequence;
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages::<M>(&datagram) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue; // left over from a question that failed halfway
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer = Some(inner.into_parts().1),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answer),
                    _ => {}
                }
            }
        }
    }
}

/// What the driver tells unasked.
pub(super) struct Events {
    socket: Socket,
    family: u16,
}

impl Events {
    /// Takes what has come: whether any of it may concern device `index`.
    pub(super) fn concern(&self, index: u32) -> io::Result<bool> {
        let mut concerned = false;
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => concerned |= self.concerns(&datagram, index),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(concerned),
                // more came than fits: then it may well
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => concerned = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn concerns(&self, datagram: &[u8], index: u32) -> bool {
        messages::<Message>(datagram).flatten().any(|message| match message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                let (_, event) = inner.into_parts();
                message.header.message_type == self.family
                    && event.command == Command::LinkDead
                    && event.index() == Some(index)
            }
            _ => false,
        })
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The messages of a datagram.
fn messages<M>(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<GenlMessage<M>>>>
where
    GenlMessage<M>: NetlinkDeserializable,
{
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<GenlMessage<M>>::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
        // messages begin at multiples of four bytes
        let length = message.as_ref().map_or(rest.len(), |message| message.header.length as usize);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn family_and_group(answer: &GenlCtrl) -> Option<(u16, u32)> {
    let family = answer.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    });
    let group = answer.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::McastGroups(groups) => groups.iter().find_map(|group| group_id(group)),
        _ => None,
    });
    Some((family?, group?))
}

fn group_id(group: &[McastGrpAttrs]) -> Option<u32> {
    if !group.iter().any(|part| matches!(part, McastGrpAttrs::Name(name) if name == GROUP)) {
        return None;
    }
    group.iter().find_map(|part| match part {
        McastGrpAttrs::Id(id) => Some(*id),
        McastGrpAttrs::Name(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_found_or_missed_with_enoent() {
        match Driver::open() {
            Ok(driver) => assert!(driver.family > 0 && driver.group > 0),
            Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ENOENT), "{error}"),
        }
    }
}
