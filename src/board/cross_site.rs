//! Refusing writes that another site makes a visitor's browser send. Programs send neither header and are let through.

use ipnet::IpNet;

use super::client_address::is_trusted;
use crate::http::Request;

/// Whether `request`, which writes, comes from a page of another site. Only `trusted` proxies are believed when they say
/// under which host the page was asked for.
pub fn is_cross_site(request: &Request, trusted: &[IpNet]) -> bool {
    // Browsers send Sec-Fetch-Site to https and to localhost, and always rightly.
    if let Some(site) = request.head.value("sec-fetch-site") {
        return site.eq_ignore_ascii_case("cross-site") || site.eq_ignore_ascii_case("same-site");
    }
    // To plain http on another machine they send only Origin.
    let Some(origin) = request.head.value("origin") else { return false };
    let Some((scheme, origin)) = origin.split_once("://") else { return true };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let plain = |host: &str| host.trim().to_ascii_lowercase().trim_end_matches(default_port).to_owned();
    let origin = plain(origin);
    let forwarded = request
        .head
        .values("x-forwarded-host")
        .filter(|_| is_trusted(request.peer, trusted))
        .flat_map(|value| value.split(','));
    !request.head.values("host").chain(forwarded).any(|host| plain(host) == origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Head;

    #[track_caller]
    fn check(headers: &str, cross_site: bool) {
        let head = format!("POST /submit HTTP/1.1\r\nHost: board.example:5000\r\n{headers}\r\n");
        let head = Head::parse(head.into_bytes()).unwrap();
        let request = Request { head, body: vec![], peer: "10.1.2.3".parse().unwrap() };
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(is_cross_site(&request, &trusted), cross_site, "{headers}");
        let untrusted = is_cross_site(&request, &["192.0.2.1/32".parse().unwrap()]);
        assert_eq!(untrusted, cross_site || headers.contains("X-Forwarded-Host"), "{headers}");
    }

    #[test]
    fn programs_are_let_through() {
        check("", false);
    }

    #[test]
    fn what_the_browser_says_of_the_site_counts() {
        check("Sec-Fetch-Site: same-origin\r\nOrigin: http://other.example\r\n", false);
        check("Sec-Fetch-Site: none\r\n", false);
        check("Sec-Fetch-Site: cross-site\r\nOrigin: http://board.example:5000\r\n", true);
        check("Sec-Fetch-Site: same-site\r\n", true);
    }

    #[test]
    fn without_it_the_origin_has_to_be_the_host() {
        check("Origin: http://board.example:5000\r\n", false);
        check("Origin: http://BOARD.example:5000\r\n", false);
        check("Origin: http://board.example\r\n", true);
        check("Origin: http://evil.example:5000\r\n", true);
        check("Origin: null\r\n", true);
        check("Origin: \r\n", true);
    }

    #[test]
    fn a_trusted_proxy_says_under_which_host_the_page_was_asked_for() {
        check("Origin: https://public.example\r\nX-Forwarded-Host: public.example\r\n", false);
        check("Origin: https://public.example\r\nX-Forwarded-Host: public.example:443, inner\r\n", false);
        check("Origin: https://evil.example\r\nX-Forwarded-Host: public.example\r\n", true);
    }
}
