use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much a [`ChannelManager`](super::ChannelManager) takes on for peers. Who asks for more is refused as
/// `channel-busy`, and may try again.
///
/// A peer is an IP address: of version 6, its first 64 bits.
///
/// ```
/// use spilman::service::Bounds;
///
/// let bounds = Bounds { connections: 100, ..Bounds::default() };
/// assert_eq!(bounds.connections_per_peer, 16);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time. Default 512. Each takes a file descriptor, of which a process usually has 1,024, and the chain and the
    /// store need some.
    pub connections: usize,
    /// Connections of one peer at a time. Default 16.
    pub connections_per_peer: usize,
    /// Channels on one connection. Default 256.
    pub channels_per_connection: usize,
    /// Channels that are being opened, or wait for the confirmations of their funding transaction. They cost this side
    /// memory and the peer nothing yet. Default 1,024.
    pub unfunded_channels: usize,
    /// The same for one peer. Default 8.
    pub unfunded_channels_per_peer: usize,
    /// A connection ends when the peer says nothing for so long. Its channels go on, and can be resumed. Default 1 hour.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_peer: 16,
            channels_per_connection: 256,
            unfunded_channels: 1_024,
            unfunded_channels_per_peer: 8,
            idle: Duration::from_secs(3_600),
        }
    }
}

/// Counts what peers hold, against a bound on all of them and on each.
pub(super) struct Room {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// A place in a [`Room`], free again when it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    peer: Option<IpAddr>,
}

impl Room {
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { all, each, taken })
    }

    /// Takes a place, if there is one. A peer without an address counts among all only.
    pub fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        let peer = peer.map(network);
        let mut taken = self.taken();
        let by_peer = peer.and_then(|peer| taken.by_peer.get(&peer).copied());
        let by_peer = by_peer.unwrap_or_default();
        if taken.all >= self.all || by_peer >= self.each {
            return None;
        }
        taken.all += 1;
        if let Some(peer) = peer {
            taken.by_peer.insert(peer, by_peer + 1);
        }
        let room = Arc::clone(self);
        Some(Place { room, peer })
    }

    /// Takes a place whether there is one or not: for what is there already.
    pub fn take_anyway(self: &Arc<Self>) -> Place {
        self.taken().all += 1;
        Place {
            room: Arc::clone(self),
            peer: None,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Counts are whole whatever became of the thread that changed them last.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= 1;
        let Some(peer) = self.peer else { return };
        if let Some(count) = taken.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                taken.by_peer.remove(&peer);
            }
        }
    }
}

/// What one peer has addresses from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_for_all_and_for_each() {
        let room = Room::new(3, 2);
        let peer = |address: &str| Some(address.parse().unwrap());
        let (a, same, b) = (
            peer("2001:db8::1"),
            peer("2001:db8::2:1"),
            peer("2001:db8:0:1::1"),
        );
        let first = room.take(a).unwrap();
        let _second = room.take(same).unwrap();
        assert!(room.take(a).is_none(), "a peer cannot hide in its own network");
        let other = room.take(b).unwrap();
        assert!(room.take(None).is_none(), "the room is full");
        drop(other);
        drop(first);
        let _again = room.take(same).unwrap();
        let _one_more = room.take_anyway();
        assert!(room.take(None).is_none());
        let mapped = (peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_eq!(mapped.0.map(network), mapped.1.map(network));
    }
}
