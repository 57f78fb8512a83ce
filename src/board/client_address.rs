//! Who a request comes from, behind the proxies that are believed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::http::Request;

/// The address of the client: the other end of the connection or, where that is a trusted proxy, the right-most
/// `X-Forwarded-For` entry that is not one. What stands further left anybody may have written.
pub fn address(request: &Request, trusted: &[IpNet]) -> IpAddr {
    let mut client = request.peer;
    if !is_trusted(client, trusted) {
        return client;
    }
    let entries: Vec<&str> = request.head.values("x-forwarded-for").flat_map(|value| value.split(',')).collect();
    for entry in entries.into_iter().rev() {
        if !is_trusted(client, trusted) {
            break;
        }
        match parse(entry.trim()) {
            Some(next) => client = next,
            None => break,
        }
    }
    client
}

/// Whether this is the address of a proxy that is believed.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// An address as proxies write it: some add the port.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Head;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], want: &str) {
        let lines: String = forwarded.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
        let head = Head::parse(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()).unwrap();
        let request = Request { head, body: vec![], peer: peer.parse().unwrap() };
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        assert_eq!(address(&request, &trusted), want.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_the_right_most_other_entry_counts() {
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9", "198.51.100.7", "10.0.0.2,fd00::3"], "198.51.100.7");
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check("fd00::1", &["2001:db8::7"], "2001:db8::7");
    }

    #[test]
    fn ports_are_dropped_and_nonsense_ends_the_search() {
        check("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7");
        check("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7");
        check("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &[""], "10.0.0.1");
    }
}
