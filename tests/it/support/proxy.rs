//! A way from the service to its database that a test can cut, hold, silence and close, at a statement of its choice.
//!
//! What the service sends is forwarded packet by packet, so that a statement arrives whole or not at all.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use super::{Database, free_port};

/// What happens to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// It never arrives, and the connection is cut.
    Lose,
    /// It arrives, and the connection is cut when the server has answered it.
    LoseAnswer,
    /// It arrives, and its answer waits until [`Proxy::release`].
    HoldAnswer,
}

/// What the packets that run a prepared statement have in them, whose text is not.
pub const EXECUTE: &str = "\u{17}";

/// The proxy; everything through it is cut when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    traps: Vec<(String, Trap)>,
    caught: Vec<String>,
    links: HashMap<u64, Link>,
    count: u64,
    silent: bool,
    closed: bool,
    disguised: bool,
}

/// A connection of the service, and the proxy's own to the server.
struct Link {
    client: TcpStream,
    server: TcpStream,
    trap: Option<Trap>,
}

impl Proxy {
    /// A proxy in front of `database`, on loopback.
    pub fn start(database: &Database) -> Proxy {
        Proxy::at(Ipv4Addr::LOCALHOST, database)
    }

    /// A proxy that listens at this address.
    pub fn at(ip: Ipv4Addr, database: &Database) -> Proxy {
        let upstream = (Ipv4Addr::LOCALHOST, database.port()).into();
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), changed: Condvar::new() });
        let proxy = Proxy { shared, address: (ip, free_port()).into(), acceptor: Mutex::new(None) };
        proxy.open();
        proxy
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Listens, again after [`Proxy::close`].
    pub fn open(&self) {
        let listener = TcpListener::bind(self.address).expect("the proxy's port");
        self.shared.lock().closed = false;
        let shared = Arc::clone(&self.shared);
        *self.acceptor.lock().unwrap() = Some(thread::spawn(move || shared.accept(&listener)));
    }

    /// Cuts all connections and refuses new ones: a dead host.
    pub fn close(&self) {
        let Some(acceptor) = self.acceptor.lock().unwrap().take() else { return };
        self.shared.lock().closed = true;
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.address));
        acceptor.join().expect("the proxy's thread");
        self.cut();
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.lock().links.values().for_each(Link::cut);
        self.shared.changed.notify_all();
    }

    /// From now on nothing goes through, and nothing is refused either: a host that hangs.
    pub fn silence(&self) {
        self.shared.lock().silent = true;
    }

    /// Ends the silence; what was sent meanwhile arrives.
    pub fn speak(&self) {
        self.shared.lock().silent = false;
        self.shared.changed.notify_all();
    }

    /// From now on a MariaDB server calls itself by a MySQL's name, which has as many letters.
    pub fn disguise(&self) {
        self.shared.lock().disguised = true;
    }

    /// Sets a trap for the next packet of the service that has `text` in it.
    pub fn arm(&self, text: &str, trap: Trap) {
        self.shared.lock().traps.push((text.to_owned(), trap));
    }

    /// Sets a trap if the one before has been met. Whether it did.
    pub fn arm_alone(&self, text: &str, trap: Trap) -> bool {
        let mut state = self.shared.lock();
        let free = state.traps.is_empty();
        if free {
            state.caught.clear();
            state.traps.push((text.to_owned(), trap));
        }
        free
    }

    /// Lets all answers go that are held.
    pub fn release(&self) {
        self.shared.lock().links.values_mut().for_each(|link| link.trap = None);
        self.shared.changed.notify_all();
    }

    /// The packets that went into a trap, in their order.
    pub fn caught(&self) -> Vec<String> {
        self.shared.lock().caught.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        loop {
            let (client, _) = listener.accept().expect("the proxy takes connections");
            if self.lock().closed {
                return;
            }
            // A server that is down is a connection that ends immediately.
            let Ok(server) = TcpStream::connect(self.upstream) else { continue };
            let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            let copy = |socket: &TcpStream| socket.try_clone().expect("a descriptor");
            let mut state = self.lock();
            state.count += 1;
            let number = state.count;
            state.links.insert(number, Link { client: copy(&client), server: copy(&server), trap: None });
            let (shared, from, to) = (Arc::clone(self), copy(&client), copy(&server));
            thread::spawn(move || shared.ends(number, |shared| shared.forward_packets(number, from, to)));
            let shared = Arc::clone(self);
            thread::spawn(move || shared.ends(number, |shared| shared.forward_answers(number, server, client)));
        }
    }

    /// Runs one direction of a link, whose end is the end of both.
    fn ends(&self, number: u64, run: impl FnOnce(&Shared) -> Option<()>) {
        let _ = run(self);
        if let Some(link) = self.lock().links.remove(&number) {
            link.cut();
        }
        self.changed.notify_all();
    }

    fn forward_packets(&self, number: u64, mut from: TcpStream, mut to: TcpStream) -> Option<()> {
        loop {
            // Three bytes of length, one of sequence, then the payload.
            let mut packet = vec![0; 4];
            from.read_exact(&mut packet).ok()?;
            let length = usize::from(packet[0]) | usize::from(packet[1]) << 8 | usize::from(packet[2]) << 16;
            packet.resize(4 + length, 0);
            from.read_exact(&mut packet[4..]).ok()?;
            let mut state = self.when(number, |state, _| !state.silent)?;
            let text = String::from_utf8_lossy(&packet[4..]);
            if let Some(at) = state.traps.iter().position(|(needle, _)| text.contains(needle)) {
                let (_, trap) = state.traps.remove(at);
                state.caught.push(text.into_owned());
                match trap {
                    Trap::Lose => return None,
                    Trap::LoseAnswer | Trap::HoldAnswer => state.links.get_mut(&number)?.trap = Some(trap),
                }
            }
            drop(state);
            to.write_all(&packet).ok()?;
        }
    }

    fn forward_answers(&self, number: u64, mut from: TcpStream, mut to: TcpStream) -> Option<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let n = from.read(&mut bytes).ok().filter(|n| *n > 0)?;
            let state = self.when(number, |state, link| !state.silent && link.trap != Some(Trap::HoldAnswer))?;
            if state.links.get(&number)?.trap == Some(Trap::LoseAnswer) {
                return None;
            }
            let disguised = state.disguised;
            drop(state);
            let bytes = &mut bytes[..n];
            if disguised {
                let (from, to) = (b"MariaDB", b"Percona");
                (0..n.saturating_sub(from.len() - 1)).for_each(|at| {
                    if bytes[at..].starts_with(from) {
                        bytes[at..at + to.len()].copy_from_slice(to);
                    }
                });
            }
            to.write_all(bytes).ok()?;
        }
    }

    /// The state as soon as `condition` holds for this link; nothing when the link has ended.
    fn when(&self, number: u64, condition: impl Fn(&State, &Link) -> bool) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !condition(&state, state.links.get(&number)?) {
            state = self.changed.wait(state).unwrap();
        }
        Some(state)
    }
}

impl Link {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}
