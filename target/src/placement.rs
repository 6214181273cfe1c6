//! Which core serves a volume, and which accepts the clients of a portal.
//!
//! Its one rule: nobody else knows. A volume lives whole on one core today; when it is cut into shards by
//! address, this is where.

/// The core for one more volume, given how many volumes each core has: the emptiest, the first of equals.
pub fn core_for_volume(volumes_per_core: &[usize]) -> usize {
    let emptiest = volumes_per_core.iter().enumerate().min_by_key(|(_, volumes)| **volumes);
    emptiest.map(|(core, _)| core).expect("a node has at least one core")
}

/// The core that accepts on the `index`-th portal; a client moves to its volume's core once it has named it.
pub fn core_for_portal(index: usize, cores: usize) -> usize {
    index % cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_spread_over_the_cores() {
        let mut volumes = [0; 3];
        for _ in 0..6 {
            volumes[core_for_volume(&volumes)] += 1;
        }
        assert_eq!(volumes, [2, 2, 2]);
        assert_eq!((0..4).map(|portal| core_for_portal(portal, 3)).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }
}
