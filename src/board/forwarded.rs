//! What trusted proxies report about a request: the client's address, and the host that the client asked for.
//!
//! Headers of other peers are ignored. `Forwarded` (RFC 7239) wins over the `X-Forwarded-*` headers.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;
use log::warn;

use super::parameters::{parameter, split_unquoted};
use crate::http::Request;
use crate::http::head::Head;

/// The proxies of `TRUSTED_PROXIES`.
pub(super) struct TrustedProxies {
    networks: Vec<IpNet>,
    conflict_logged: AtomicBool,
}

impl TrustedProxies {
    /// Trusts the peers in these networks.
    pub(super) fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies { networks, conflict_logged: AtomicBool::new(false) }
    }

    /// The address of the client: the peer or, where that is a trusted proxy, the right-most entry that is not one. The
    /// client itself may have written what stands further left.
    pub(super) fn client(&self, head: &Head, peer: IpAddr) -> IpAddr {
        let mut client = peer;
        if !self.trusts(client) {
            return client;
        }
        for next in self.reported_clients(head).into_iter().rev() {
            match next {
                Some(next) => client = next,
                None => break,
            }
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// The hosts, each with its port if one was given, that the client may have asked for: `Host`, and what a trusted
    /// proxy reports instead of it.
    pub(super) fn hosts<'a>(&self, request: &'a Request) -> Vec<Cow<'a, str>> {
        let head = &request.head;
        let mut hosts: Vec<Cow<'a, str>> = head.values("host").map(Cow::Borrowed).collect();
        if !self.trusts(request.peer) {
            return hosts;
        }
        if has(head, "forwarded") {
            let reported = elements(head).filter_map(|element| parameter(element, "host"));
            hosts.extend(reported.map(Cow::Owned));
            return hosts;
        }
        hosts.extend(list(head, "x-forwarded-host").map(Cow::Borrowed));
        let with_port = |port: &str| {
            let names = hosts.iter().filter(|host| !has_port(host));
            names.map(|host| Cow::Owned(format!("{host}:{port}"))).collect::<Vec<_>>()
        };
        let with_ports: Vec<_> = list(head, "x-forwarded-port").flat_map(with_port).collect();
        hosts.extend(with_ports);
        hosts
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// One entry for each proxy on the way, the nearest last; `None` for one that is not an address.
    fn reported_clients(&self, head: &Head) -> Vec<Option<IpAddr>> {
        if !has(head, "forwarded") {
            return list(head, "x-forwarded-for").map(parse_address).collect();
        }
        if has(head, "x-forwarded-for") && !self.conflict_logged.swap(true, Ordering::Relaxed) {
            warn!(
                "a trusted proxy sends both Forwarded and X-Forwarded-For; Forwarded is used. A proxy that sets only \
                 X-Forwarded-For must remove the Forwarded header of its clients"
            );
        }
        elements(head).map(|element| parse_address(&parameter(element, "for")?)).collect()
    }
}

fn has(head: &Head, name: &str) -> bool {
    head.value(name).is_some()
}

/// The entries of a header whose value is a list.
fn list<'a>(head: &'a Head, name: &'static str) -> impl Iterator<Item = &'a str> + 'a {
    head.values(name).flat_map(|value| value.split(',')).map(str::trim)
}

/// The elements of all `Forwarded` headers (RFC 7239, section 4).
fn elements(head: &Head) -> impl Iterator<Item = &str> {
    head.values("forwarded").flat_map(|value| split_unquoted(value, ','))
}

/// Whether `host` ends with a port. The colons of an IPv6 address stand in brackets.
fn has_port(host: &str) -> bool {
    host.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
}

/// An address as proxies write it: in brackets or not, with a port or without.
fn parse_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &str) -> Head {
        Head::parse(format!("GET / HTTP/1.1\r\nHost: inner\r\n{headers}\r\n").into_bytes()).unwrap()
    }

    fn request(peer: &str, headers: &str) -> Request {
        Request { head: head(headers), body: vec![], peer: peer.parse().unwrap() }
    }

    fn proxies() -> TrustedProxies {
        TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
    }

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], want: &str) {
        let lines: String = forwarded.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
        let client = proxies().client(&head(&lines), peer.parse().unwrap());
        assert_eq!(client, want.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
    }

    #[test]
    fn only_trusted_proxies_count_and_the_right_most_other_entry_is_the_client() {
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
    fn ports_are_dropped_and_an_invalid_entry_ends_the_search() {
        check("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7");
        check("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7");
        check("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &[""], "10.0.0.1");
    }

    #[test]
    fn forwarded_is_understood_and_wins() {
        for (headers, want) in [
            ("Forwarded: for=198.51.100.7\r\n", "198.51.100.7"),
            ("Forwarded: For=\"[2001:db8:cafe::17]:4711\"\r\n", "2001:db8:cafe::17"),
            ("Forwarded: by=10.0.0.9;for=203.0.113.9;proto=https, for=198.51.100.7 ; host=a\r\n", "198.51.100.7"),
            ("Forwarded: for=203.0.113.9\r\nForwarded: for=198.51.100.7, for=10.0.0.2\r\n", "198.51.100.7"),
            ("Forwarded: for=\"198.51.100.7\";host=\"a,b;for=1.2.3.4\"\r\n", "198.51.100.7"),
            ("Forwarded: for=203.0.113.9, for=_hidden\r\n", "10.0.0.1"),
            ("Forwarded: for=203.0.113.9, for=unknown, for=10.0.0.2\r\n", "10.0.0.2"),
            ("Forwarded: for=203.0.113.9, proto=https\r\n", "10.0.0.1"),
            ("Forwarded: for=\"203.0.113.9, for=198.51.100.7\r\n", "10.0.0.1"),
            ("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=198.51.100.7\r\n", "198.51.100.7"),
        ] {
            let client = proxies().client(&head(headers), [10, 0, 0, 1].into());
            assert_eq!(client, want.parse::<IpAddr>().unwrap(), "{headers}");
        }
        let client = proxies().client(&head("Forwarded: for=198.51.100.7\r\n"), [192, 0, 2, 1].into());
        assert_eq!(client, "192.0.2.1".parse::<IpAddr>().unwrap(), "the peer is not trusted");
    }

    #[test]
    fn hosts_come_with_the_ports_that_a_trusted_proxy_reports() {
        for (peer, headers, want) in [
            ("192.0.2.1", "X-Forwarded-Host: outer\r\nForwarded: host=outer\r\n", "inner"),
            ("10.0.0.1", "", "inner"),
            ("10.0.0.1", "X-Forwarded-Host: outer, middle\r\n", "inner outer middle"),
            ("10.0.0.1", "X-Forwarded-Port: 8443\r\n", "inner inner:8443"),
            (
                "10.0.0.1",
                "X-Forwarded-Host: outer:81, [fd00::1]\r\nX-Forwarded-Port: 8443\r\n",
                "inner outer:81 [fd00::1] inner:8443 [fd00::1]:8443",
            ),
            ("10.0.0.1", "Forwarded: for=1.2.3.4;host=\"outer:8443\"\r\nX-Forwarded-Host: x\r\n", "inner outer:8443"),
            ("10.0.0.1", "Forwarded: host=\"a\\\\\\\"b\"\r\n", "inner a\\\"b"),
        ] {
            assert_eq!(proxies().hosts(&request(peer, headers)).join(" "), want, "{headers}");
        }
    }
}
