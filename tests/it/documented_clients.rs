//! The clients that `docs/api.md` shows, each run against the service through a front that loses connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use crate::support::database::unique;
use crate::support::service::collect_lines;
use crate::support::{Board, eventually};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");

/// Forwards connections to the service. The response on the first one is lost, and half of that on the second one.
struct Front {
    address: SocketAddr,
    links: Arc<Mutex<Links>>,
}

#[derive(Default)]
struct Links {
    sockets: Vec<TcpStream>,
    lost: usize,
    /// What the clients got.
    responses: String,
}

/// A running client, killed with its owner.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Front {
    fn start(service: SocketAddr) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let front = Front { address: listener.local_addr().expect("an address"), links: Arc::default() };
        let links = Arc::clone(&front.links);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let service = TcpStream::connect(service).expect("the service");
                let copy = |socket: &TcpStream| socket.try_clone().expect("a descriptor");
                links.lock().unwrap().sockets.extend([copy(&client), copy(&service)]);
                let (mut from, mut to) = (copy(&client), copy(&service));
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                let links = Arc::clone(&links);
                thread::spawn(move || forward_responses(&links, service, client));
            }
        });
        front
    }

    /// Cuts all connections.
    fn cut(&self) {
        self.links.lock().unwrap().sockets.drain(..).for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    }
}

fn forward_responses(links: &Mutex<Links>, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut bytes)
        && n > 0
    {
        let mut links = links.lock().unwrap();
        if links.lost < 2 {
            links.lost += 1;
            let half = if links.lost == 1 { 0 } else { n - 8 };
            let _ = to.write_all(&bytes[..half]);
            break;
        }
        links.responses.push_str(&String::from_utf8_lossy(&bytes[..n]));
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The only code block of `docs/api.md` in this language.
fn code(language: &str) -> String {
    let document = fs::read_to_string(DOCUMENT).expect("docs/api.md");
    let fence = format!("```{language}\n");
    let blocks: Vec<&str> = document.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 1, "blocks of {language} in docs/api.md");
    blocks[0].to_owned()
}

fn run_client(program: &str, language: &str, extension: &str) {
    if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing: install it");
        eprintln!("skipped: {program} is missing, so the client in docs/api.md is not run");
        return;
    }
    let board = Board::start();
    let front = Front::start(board.service.address);
    let path = std::env::temp_dir().join(format!("twotier-{}.{extension}", unique()));
    fs::write(&path, code(language)).expect("a file");
    let address = format!("http://{}/", front.address);
    let mut command = Command::new(program);
    command.arg(&path).arg(address).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Client(command.spawn().expect("the program starts"));
    let printed = collect_lines(client.0.stdout.take().expect("stdout"));
    let errors = collect_lines(client.0.stderr.take().expect("stderr"));
    let mut prints = |text: &str| {
        eventually(&format!("{program} prints {text}"), || {
            let has_ended = client.0.try_wait().expect("a child").is_some();
            assert!(!has_ended, "{program} ended:\n{}", errors.lock().unwrap());
            printed.lock().unwrap().contains(text)
        });
    };
    prints("posted");
    let stored: Vec<String> = board.schema.rows("SELECT message FROM messages");
    assert_eq!((stored.len(), front.links.lock().unwrap().lost), (1, 2), "{stored:?}");

    eventually("the stream is open", || front.links.lock().unwrap().responses.contains(": connected"));
    // A line separator ends no line of an event stream.
    board.submit("while it \u{2028} listens");
    prints("listens");
    front.cut();
    board.submit("while it is away");
    prints("while it is away");
    fs::remove_file(path).expect("the file");
}

#[test]
fn the_python_client_posts_once_through_a_lost_response_and_follows_through_a_lost_stream() {
    run_client("python3", "python", "py");
}

#[test]
fn the_javascript_client_posts_once_through_a_lost_response_and_follows_through_a_lost_stream() {
    run_client("node", "js", "mjs");
}
