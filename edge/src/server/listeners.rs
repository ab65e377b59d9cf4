//! The listening sockets: bound, or taken over; and Pingora's server on top of them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};

use super::Error;
use crate::config::Config;
use crate::engine::Engine;
use crate::front::Front;
use crate::front::drain::Drain;
use crate::front::listen::{Bound, ListenError, bind, bind_one};
use crate::front::service::Service;
use crate::front::tls::Acceptor;
use crate::upgrade::{Place, Purpose, Takeover};

/// Everything that is bound before anything is started.
pub(super) struct Listeners {
    clear: Vec<Bound>,
    tls: Vec<Bound>,
    admin: TcpListener,
}

impl Listeners {
    /// Takes over what the running edge has, and binds the rest.
    ///
    /// # Errors
    /// The address that can't be had.
    pub(super) fn bind(
        config: &Config,
        mut takeover: Option<&mut Takeover>,
    ) -> Result<Listeners, Error> {
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let mut take =
            |purpose, address: SocketAddr| takeover.as_mut()?.take(Place { purpose, address });
        let mut all = |purpose, addresses: &[SocketAddr]| -> Result<Vec<Bound>, ListenError> {
            let one = |&address| match take(purpose, address) {
                // All of them, whatever `threads` says: each has a queue of connections.
                Some(sockets) => Ok(Bound { address, sockets }),
                None => bind(address, threads),
            };
            addresses.iter().map(one).collect()
        };
        let (clear, tls) = (
            all(Purpose::Clear, &config.listen)?,
            all(Purpose::Tls, &config.tls.listen)?,
        );
        let admin = take(Purpose::Admin, config.admin).and_then(|mut sockets| sockets.pop());
        Ok(Listeners {
            clear,
            tls,
            admin: admin.map_or_else(|| bind_one(config.admin), Ok)?,
        })
    }

    /// A second handle to each, for a process that takes over.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn second_handles(&self) -> io::Result<Vec<(Place, TcpListener)>> {
        let mut handles = Vec::new();
        for (purpose, bounds) in [(Purpose::Clear, &self.clear), (Purpose::Tls, &self.tls)] {
            for Bound { address, sockets } in bounds {
                let address = *address;
                for socket in sockets {
                    handles.push((Place { purpose, address }, socket.try_clone()?));
                }
            }
        }
        let admin = Place {
            purpose: Purpose::Admin,
            address: self.admin.local_addr()?,
        };
        handles.push((admin, self.admin.try_clone()?));
        Ok(handles)
    }

    /// Starts Pingora's server with a service for each socket; hands the admin's socket back.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn start(
        self,
        service: &Arc<Service<Arc<Engine>>>,
        acceptor: Option<Acceptor>,
        grace: Duration,
    ) -> Result<TcpListener, Error> {
        let mut server = Server::new_with_opt_and_conf(None, server_conf(grace));
        server.bootstrap();
        let mut add = |bounds: Vec<Bound>, name: &str, acceptor: Option<Acceptor>| {
            for bound in bounds {
                tracing::info!(address = %bound.address, protocol = name, "listening");
                let front = Front::new(Arc::clone(service), acceptor.clone());
                for listening in bound.into_services(name, || front.clone()) {
                    server.add_service(listening);
                }
            }
        };
        add(self.clear, "http", None);
        add(self.tls, "https", acceptor);
        let ending = Ending(service.drain.clone());
        thread::Builder::new()
            .name("pingora".to_owned())
            .spawn(move || {
                server.run(RunArgs {
                    shutdown_signal: Box::new(ending),
                });
            })
            .map_err(Error::Threads)?;
        Ok(self.admin)
    }
}

/// Pingora is told to stop when we begin to drain: it handles no signals of its own.
struct Ending(Drain);

#[async_trait]
impl ShutdownSignalWatch for Ending {
    async fn recv(&self) -> ShutdownSignal {
        self.0.begun().await;
        ShutdownSignal::GracefulTerminate
    }
}

fn server_conf(grace: Duration) -> ServerConf {
    ServerConf {
        threads: 1,
        // One thread a service: nothing to steal from, and stealing costs.
        work_stealing: false,
        grace_period_seconds: Some(grace.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
