//! Ports that are nobody's for a while.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use rustix::net::{bind, socket, sockopt, AddressFamily, SocketType};

/// A port that the system gives to nobody who asks for any port, while a daemon can still bind it: both say that they
/// reuse the address, and this side does not listen.
#[derive(Debug)]
pub(in super::super) struct Reserved {
    _socket: OwnedFd,
}

impl Reserved {
    pub fn new(address: SocketAddrV4) -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        // Not for the daemons that are started meanwhile.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        Ok(Self { _socket: socket })
    }
}
