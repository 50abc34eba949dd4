//! Reserved ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{bind, getsockname, socket, sockopt, AddressFamily, SocketType};

/// A port that the system gives to no other program that asks for any port, while a daemon can still bind it: both
/// say that they reuse the address, and this side does not listen.
#[derive(Debug)]
pub(in crate::regtest) struct Reserved {
    address: SocketAddrV4,
    _socket: OwnedFd,
}

impl Reserved {
    /// Returns a port of 127.0.0.1 that is free now, and from now on reserved.
    pub fn any() -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        // Not for the daemons that are started meanwhile.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(getsockname(&socket)?)?;
        Ok(Self {
            address,
            _socket: socket,
        })
    }

    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}
