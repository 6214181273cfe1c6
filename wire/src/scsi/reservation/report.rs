//! The answers to PERSISTENT RESERVE IN (SPC-4 6.15).

use super::{Registrant, Reservations, ReserveIn};

impl Reservations {
    /// The whole parameter data; the caller cuts it to the allocation length.
    pub fn report(&self, action: ReserveIn) -> Vec<u8> {
        match action {
            ReserveIn::ReadKeys => {
                self.listed(self.registrants.iter().flat_map(|each| each.key.to_be_bytes()))
            }
            ReserveIn::ReadReservation => self.listed(self.reservation()),
            ReserveIn::ReportCapabilities => self.capabilities(),
            ReserveIn::ReadFullStatus => {
                self.listed(self.registrants.iter().flat_map(|each| self.full_status(each)))
            }
        }
    }

    /// PRGENERATION, ADDITIONAL LENGTH, and what follows.
    fn listed(&self, body: impl IntoIterator<Item = u8>) -> Vec<u8> {
        let mut data = self.generation.to_be_bytes().to_vec();
        data.extend_from_slice(&[0; 4]);
        data.extend(body);
        let length = (data.len() - 8) as u32;
        data[4..8].copy_from_slice(&length.to_be_bytes());
        data
    }

    fn reservation(&self) -> Vec<u8> {
        let Some(kind) = self.held else { return Vec::new() };
        // No single key stands for a reservation of all registrants.
        let holder = self.registrants.iter().find(|registrant| registrant.holds);
        let mut data = holder.map_or(0, |holder| holder.key).to_be_bytes().to_vec();
        data.extend_from_slice(&[0, 0, 0, 0, 0, kind as u8, 0, 0]);
        data
    }

    fn capabilities(&self) -> Vec<u8> {
        const CRH_SIP_ATP_PTPL: u8 = 0x1d;
        const TMV: u8 = 0x80;
        // All six types.
        vec![0, 8, CRH_SIP_ATP_PTPL, TMV | u8::from(self.persists), 0xea, 0x01, 0, 0]
    }

    fn full_status(&self, registrant: &Registrant) -> Vec<u8> {
        let holds = registrant.holds || self.held.is_some_and(|kind| kind.is_held_by_all());
        let all_ports = u8::from(registrant.target.is_none()) << 1;
        let kind = self.held.filter(|_| holds).map_or(0, |kind| kind as u8);
        let mut data = registrant.key.to_be_bytes().to_vec();
        data.extend_from_slice(&[0, 0, 0, 0, all_ports | u8::from(holds), kind, 0, 0, 0, 0]);
        let relative_port = registrant.target.as_ref().map_or(0, |target| target.relative_port);
        data.extend_from_slice(&relative_port.to_be_bytes());
        let mut id = Vec::new();
        registrant.initiator.put_transport_id(&mut id);
        data.extend_from_slice(&(id.len() as u32).to_be_bytes());
        data.extend_from_slice(&id);
        data
    }
}
