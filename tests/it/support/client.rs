//! A client that sends given bytes and reads responses strictly.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A connection to the service.
pub struct Connection {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        Connection::try_open(address).expect("the service takes connections")
    }

    pub fn try_open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, buffer: Vec::new() })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A service that has answered and closed may reset what is still sent; what it answered tells.
        let _ = self.socket.write_all(bytes.as_ref());
    }

    /// Reads one answer to a request that was not HEAD.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("an answer")
    }

    /// Reads one answer; to HEAD, and with 1xx, 204 and 304, without a body.
    pub fn try_answer(&mut self, head: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let text = String::from_utf8(self.buffer.drain(..end).collect()).map_err(io::Error::other)?;
        let mut lines = text.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        assert!(status_line.starts_with("HTTP/1.1 "), "{status_line}");
        let status = status_line[9..12].parse().map_err(io::Error::other)?;
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").expect("a header line"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !head && status >= 200 && status != 204 && status != 304 {
            let length: usize = answer.header("Content-Length").expect("a length").parse().map_err(io::Error::other)?;
            while self.buffer.len() < length {
                self.fill()?;
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Ok(answer)
    }

    /// Whether some of an answer, or the connection's end, is here.
    pub fn has_answer(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let here = self.socket.peek(&mut [0]).is_ok();
        self.socket.set_nonblocking(false).expect("a socket");
        here
    }

    /// Whether the service has closed its side and left nothing unread.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        let read = self.socket.read_to_end(&mut rest);
        self.buffer.extend(rest);
        assert!(self.buffer.is_empty(), "more than one answer: {:?}", String::from_utf8_lossy(&self.buffer));
        match read {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(())
            }
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn id(&self) -> u64 {
        self.json()["id"].as_u64().unwrap_or_else(|| panic!("no id in {:?}", self.text()))
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_else(|| panic!("no code in {:?}", self.text())).to_owned()
    }

    /// The texts of a list, in its order.
    pub fn messages(&self) -> Vec<String> {
        let list = self.json();
        let messages = list["messages"].as_array().unwrap_or_else(|| panic!("no list in {:?}", self.text())).clone();
        messages.iter().map(|m| m["message"].as_str().expect("a text").to_owned()).collect()
    }
}

/// Text as a form's value.
pub fn form_value(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A request as bytes.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: board.test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
