//! How calls reach a node that may be started again.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs, io};

use bitcoincore_rpc::jsonrpc::client::Transport;
use bitcoincore_rpc::jsonrpc::http::simple_http::SimpleHttpTransport;
use bitcoincore_rpc::jsonrpc::{self, Request, Response};
use bitcoincore_rpc::{Auth, Client};

/// Returns a client for the RPC server at this address. Each of its calls takes at most `timeout`. A cookie is read for each,
/// because the node writes another one at every start. Nothing is sent yet.
///
/// # Errors
/// If the address is not valid.
pub fn rpc_client(url: &str, auth: Auth, timeout: Duration) -> Result<Client, bitcoincore_rpc::Error> {
    let caller = Caller {
        url: url.to_owned(),
        auth,
        timeout,
    };
    // An address that is not valid is an error now, and not at each call.
    let address = SimpleHttpTransport::builder().url(url);
    address.map_err(jsonrpc::Error::from)?;
    Ok(Client::from_jsonrpc(jsonrpc::Client::with_transport(caller)))
}

/// Each call has a connection of its own, so that none waits for another one.
struct Caller {
    url: String,
    auth: Auth,
    timeout: Duration,
}

/// There is no cookie.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the cookie {}: {error}", path.display())]
struct NoCookie {
    path: PathBuf,
    error: io::Error,
}

impl Caller {
    fn connection(&self) -> Result<SimpleHttpTransport, jsonrpc::Error> {
        let builder = SimpleHttpTransport::builder().timeout(self.timeout);
        let builder = builder.url(&self.url)?;
        let builder = match &self.auth {
            Auth::None => builder,
            Auth::UserPass(user, password) => builder.auth(user, Some(password)),
            Auth::CookieFile(path) => {
                let cookie = fs::read_to_string(path).map_err(|error| {
                    let path = path.clone();
                    jsonrpc::Error::Transport(NoCookie { path, error }.into())
                })?;
                builder.cookie_auth(cookie.trim_end())
            }
        };
        Ok(builder.build())
    }
}

impl Transport for Caller {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        self.connection()?.send_request(request)
    }

    fn send_batch(&self, requests: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        self.connection()?.send_batch(requests)
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}
