//! Refuses writes that another site makes a visitor's browser send. Programs send neither `Sec-Fetch-Site` nor `Origin`
//! and pass.

use std::time::Duration;

use log::{debug, info};
use url::Url;

use super::forwarded::TrustedProxies;
use super::problem::excerpt;
use crate::http::Request;
use crate::logging::LogLimit;

/// Decides which browser writes are the board's own.
pub(super) struct CrossSiteRule {
    /// The origins of `PUBLIC_URL`, as browsers write them.
    public_origins: Vec<String>,
    refusals: LogLimit,
}

const OWN_PAGE: &str = "No setting allows this; write from the board's own page.";

impl CrossSiteRule {
    /// Accepts the origins of `public_urls`; without any, the origin must match the host of the request.
    pub(super) fn new(public_urls: &[Url]) -> CrossSiteRule {
        CrossSiteRule {
            public_origins: public_urls.iter().map(|url| url.origin().ascii_serialization()).collect(),
            refusals: LogLimit::new(Duration::from_secs(60)),
        }
    }

    /// Checks a request that writes. An error explains the refusal: which origin met which host, and the setting that
    /// would allow it. The same is logged, once a minute at info and always at debug.
    pub(super) fn check(&self, request: &Request, proxies: &TrustedProxies) -> Result<(), String> {
        let Err(reason) = self.judge(request, proxies) else { return Ok(()) };
        match self.refusals.admit() {
            Some(suppressed) => info!(suppressed; "cross-site write refused: {reason}"),
            None => debug!("cross-site write refused: {reason}"),
        }
        Err(reason)
    }

    fn judge(&self, request: &Request, proxies: &TrustedProxies) -> Result<(), String> {
        let head = &request.head;
        let origin = head.value("origin").map(excerpt);
        let met = || {
            let hosts = proxies.hosts(request).iter().map(|host| excerpt(host)).collect::<Vec<_>>().join(", ");
            format!("Origin {} met Host {hosts}", origin.as_deref().unwrap_or("(none)"))
        };
        let fetch_sites: Vec<&str> = head.values("sec-fetch-site").collect();
        for site in ["cross-site", "same-site"] {
            if fetch_sites.iter().any(|sent| sent.eq_ignore_ascii_case(site)) {
                return Err(format!(
                    "The browser reports that another site made this request (Sec-Fetch-Site: {site}; {}). {OWN_PAGE}",
                    met()
                ));
            }
        }
        let Some(origin) = &origin else { return Ok(()) };
        // `null`, and the origins of browser extensions and files, are no addresses of a board.
        let is_address = ["http://", "https://"].iter().any(|scheme| origin.starts_with(scheme));
        if !self.public_origins.is_empty() {
            let listed = |sent: &str| self.public_origins.iter().any(|public| is_same_origin(public, sent));
            return if head.values("origin").all(listed) {
                Ok(())
            } else {
                let advice = match is_address {
                    true => format!("If people reach the board at {origin}, add it to PUBLIC_URL."),
                    false => OWN_PAGE.to_owned(),
                };
                Err(format!("{}, and PUBLIC_URL allows only {}. {advice}", met(), self.public_origins.join(", ")))
            };
        }
        let is_own = |site: &&str| site.eq_ignore_ascii_case("same-origin") || site.eq_ignore_ascii_case("none");
        if !fetch_sites.is_empty() && fetch_sites.iter().all(is_own) {
            return Ok(());
        }
        let hosts = proxies.hosts(request);
        if head.values("origin").all(|origin| hosts.iter().any(|host| is_host_of(host, origin))) {
            Ok(())
        } else {
            let advice = match is_address {
                true => format!(
                    "If people reach the board at {origin}, set PUBLIC_URL={origin}. Or let the proxy pass on the Host header, \
                     or name the proxy in TRUSTED_PROXIES."
                ),
                false => OWN_PAGE.to_owned(),
            };
            Err(format!("{}. {advice}", met()))
        }
    }
}

/// Whether a browser that shows a page of `host` sends this `Origin`. The scheme may be any: a proxy may end TLS.
fn is_host_of(host: &str, origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, of_origin)| {
        without_default_port(scheme, host) == without_default_port(scheme, of_origin)
    })
}

fn is_same_origin(public: &str, origin: &str) -> bool {
    match (public.split_once("://"), origin.split_once("://")) {
        (Some((scheme, host)), Some((of_origin, _))) => {
            scheme.eq_ignore_ascii_case(of_origin) && is_host_of(host, origin)
        }
        (None, _) | (_, None) => false,
    }
}

fn without_default_port(scheme: &str, host: &str) -> String {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = host.trim().to_ascii_lowercase();
    host.strip_suffix(port).map_or(host.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Head;

    fn judge(public: &[&str], headers: &str) -> Result<(), String> {
        let head = format!("POST /submit HTTP/1.1\r\nHost: board.example:5000\r\n{headers}\r\n");
        let head = Head::parse(head.into_bytes()).unwrap();
        let request = Request { head, body: vec![], peer: "10.1.2.3".parse().unwrap() };
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let public: Vec<Url> = public.iter().map(|url| url.parse().unwrap()).collect();
        CrossSiteRule::new(&public).check(&request, &proxies)
    }

    #[test]
    fn the_browsers_report_and_the_origin_decide() {
        // Sec-Fetch-Site and Origin, and whether the write passes without and with PUBLIC_URL.
        for (site, origin, without, with) in [
            ("", "", true, true),
            ("same-origin", "", true, true),
            ("none", "", true, true),
            ("cross-site", "", false, false),
            ("same-site", "", false, false),
            ("CROSS-SITE", "", false, false),
            ("odd", "", true, true),
            ("same-origin", "http://other.example", true, false),
            ("none", "http://other.example", true, false),
            ("odd", "http://other.example", false, false),
            ("", "http://other.example", false, false),
            ("cross-site", "http://board.example:5000", false, false),
            ("same-site", "https://public.example", false, false),
            ("same-origin", "http://board.example:5000", true, false),
            ("odd", "http://board.example:5000", true, false),
            ("", "http://BOARD.example:5000", true, false),
            ("", "http://board.example", false, false),
            ("", "http://board.example:5000.evil", false, false),
            ("", "null", false, false),
            ("", " ", false, false),
            ("same-origin", "null", true, false),
            ("", "https://public.example", false, true),
            ("odd", "https://public.example", false, true),
            ("same-origin", "https://PUBLIC.example:443", true, true),
            ("", "http://public.example", false, false),
            ("", "https://public.example:80", false, false),
            ("", "http://second.example:8080", false, true),
            ("", "https://public.example@evil.example", false, false),
        ] {
            let site_line = if site.is_empty() { String::new() } else { format!("Sec-Fetch-Site: {site}\r\n") };
            let origin_line = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let headers = site_line + &origin_line;
            assert_eq!(judge(&[], &headers).is_ok(), without, "without PUBLIC_URL: {headers}");
            let public = ["https://public.example/board/", "http://second.example:8080/"];
            assert_eq!(judge(&public, &headers).is_ok(), with, "with PUBLIC_URL: {headers}");
        }
    }

    #[test]
    fn a_second_header_does_not_hide_the_first() {
        for headers in [
            "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
            "Origin: http://board.example:5000\r\nOrigin: http://evil.example\r\n",
            "Sec-Fetch-Site: none\r\nSec-Fetch-Site: odd\r\nOrigin: http://evil.example\r\n",
        ] {
            assert!(judge(&[], headers).is_err(), "{headers}");
        }
    }

    #[test]
    fn a_trusted_proxy_reports_the_host_and_the_port() {
        for (headers, passes) in [
            ("Origin: https://public.example\r\nX-Forwarded-Host: public.example\r\n", true),
            ("Origin: https://public.example\r\nX-Forwarded-Host: public.example:443, inner\r\n", true),
            ("Origin: https://public.example:8443\r\nX-Forwarded-Host: public.example\r\n", false),
            (
                "Origin: https://public.example:8443\r\nX-Forwarded-Host: public.example\r\nX-Forwarded-Port: 8443\r\n",
                true,
            ),
            ("Origin: https://public.example\r\nForwarded: host=public.example;proto=https\r\n", true),
            ("Origin: https://evil.example\r\nX-Forwarded-Host: public.example\r\n", false),
        ] {
            assert_eq!(judge(&[], headers).is_ok(), passes, "{headers}");
        }
    }

    #[test]
    fn a_refusal_names_the_origin_the_host_and_the_setting() {
        let reason = judge(&[], "Origin: http://board.lan\r\n").unwrap_err();
        for part in ["Origin http://board.lan", "Host board.example:5000", "PUBLIC_URL=http://board.lan"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        let reason = judge(&["https://public.example/"], "Origin: http://board.lan\r\n").unwrap_err();
        for part in ["Origin http://board.lan", "Host board.example:5000", "only https://public.example", "PUBLIC_URL"]
        {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        for origin in ["null", "moz-extension://a", "file://"] {
            for public in [&[][..], &["https://public.example/"]] {
                let reason = judge(public, &format!("Origin: {origin}\r\n")).unwrap_err();
                assert!(reason.contains(&format!("Origin {origin} met")) && reason.contains(OWN_PAGE), "{reason}");
            }
        }
        let long = format!("Origin: http://{}\r\n", "x".repeat(5000));
        assert!(judge(&[], &long).unwrap_err().len() < 1000);
    }
}
