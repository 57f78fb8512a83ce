//! All URLs on one screen: the route of a path and a method, the methods of a path, and the parameters of a route.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use prometheus::IntCounterVec;
use tiny_http::Method;

use super::input::WINDOW_PARAMETERS;
use super::problem::Problem;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The page: `GET /`.
    Page,
    /// The form's target: `POST /submit`.
    Submit,
    /// `GET /messages`.
    List,
    /// `POST /messages`.
    Create,
    /// `GET /messages/ID`.
    Show(u64),
    /// `PUT /messages/ID`.
    Replace(u64),
    /// `DELETE /messages/ID`.
    Remove(u64),
    /// The Atom feed: `GET /feed.atom`.
    Feed,
    /// The live feed: `GET /events`.
    Events,
    /// Is the process alive?
    Live,
    /// Can it serve?
    Ready,
    /// Name, version, commit.
    Version,
    /// Numbers for Prometheus.
    Metrics,
    /// The description of the API: `GET /openapi.json`.
    OpenApi,
    /// Style, script or icon by name.
    Asset(String),
    /// The icon by its old name.
    Icon,
    /// The rules for crawlers.
    Robots,
    /// The methods of a path.
    Options(&'static str),
}

/// The name of what is no route, or not with its method.
pub(super) const UNKNOWN: &str = "-";

/// What each route answers when all is well, and what an alert counts: the series that exist before the first request.
const SERIES: &[(&str, &str, &[&str])] = &[
    ("/", "GET", &["200", "500", "503"]),
    ("/submit", "POST", &["200", "303", "500", "503"]),
    ("/messages", "GET", &["200", "304", "500", "503"]),
    ("/messages", "POST", &["201", "500", "503"]),
    ("/messages/{id}", "GET", &["200", "304", "500", "503"]),
    ("/messages/{id}", "PUT", &["200", "500", "503"]),
    ("/messages/{id}", "DELETE", &["204", "500", "503"]),
    ("/feed.atom", "GET", &["200", "304", "500", "503"]),
    ("/events", "GET", &["200", "503"]),
    ("/livez", "GET", &["200"]),
    ("/readyz", "GET", &["200", "503"]),
    ("/version", "GET", &["200"]),
    ("/metrics", "GET", &["200"]),
    ("/openapi.json", "GET", &["200"]),
    ("/assets/{name}", "GET", &["200"]),
    ("/favicon.ico", "GET", &["200"]),
    ("/robots.txt", "GET", &["200"]),
    ("OPTIONS", "OPTIONS", &["204"]),
    (UNKNOWN, "GET", &["404"]),
];

const READ: &str = "GET, HEAD, OPTIONS";
const WRITE: &str = "POST, OPTIONS";
/// The methods of the list.
pub(super) const LIST: &str = "GET, HEAD, POST, OPTIONS";
const ITEM: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const ANY: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

impl Route {
    /// The route of `method` and a percent-encoded `path`. Only where messages can be edited, `PUT` and `DELETE` are among
    /// the methods of a path; elsewhere they have a route too, which says how to turn editing on.
    pub(super) fn find(method: &Method, path: &str, can_edit: bool) -> Result<Route, Problem> {
        use Method::{Delete, Get, Head, Options, Post, Put};
        let path = decode(path).ok_or(Problem::NotFound)?;
        let item = item_methods(can_edit);
        let (allow, route) = match (&*path, method) {
            ("/", Get | Head) => (READ, Some(Route::Page)),
            ("/", _) => (READ, None),
            ("/submit", Post) => (WRITE, Some(Route::Submit)),
            ("/submit", _) => (WRITE, None),
            ("/messages", Get | Head) => (LIST, Some(Route::List)),
            ("/messages", Post) => (LIST, Some(Route::Create)),
            ("/messages", _) => (LIST, None),
            ("/feed.atom", Get | Head) => (READ, Some(Route::Feed)),
            ("/events", Get | Head) => (READ, Some(Route::Events)),
            ("/livez" | "/health" | "/healthz", Get | Head) => (READ, Some(Route::Live)),
            ("/readyz" | "/ready", Get | Head) => (READ, Some(Route::Ready)),
            ("/version", Get | Head) => (READ, Some(Route::Version)),
            ("/metrics", Get | Head) => (READ, Some(Route::Metrics)),
            ("/openapi.json", Get | Head) => (READ, Some(Route::OpenApi)),
            ("/favicon.ico", Get | Head) => (READ, Some(Route::Icon)),
            ("/robots.txt", Get | Head) => (READ, Some(Route::Robots)),
            (
                "/feed.atom" | "/events" | "/livez" | "/health" | "/healthz" | "/readyz" | "/ready" | "/version"
                | "/metrics" | "/openapi.json" | "/favicon.ico" | "/robots.txt",
                _,
            ) => (READ, None),
            ("*", Options) => (if can_edit { ANY } else { LIST }, None),
            (path, method) => match (id(path), path.strip_prefix("/assets/"), method) {
                (Some(id), _, Get | Head) => (item, Some(Route::Show(id))),
                (Some(id), _, Put) => (item, Some(Route::Replace(id))),
                (Some(id), _, Delete) => (item, Some(Route::Remove(id))),
                (Some(_), _, _) => (item, None),
                (None, Some(name), Get | Head) => (READ, Some(Route::Asset(name.to_owned()))),
                (None, Some(_), _) => (READ, None),
                (None, None, _) => return Err(Problem::NotFound),
            },
        };
        match (route, method) {
            (Some(route), _) => Ok(route),
            (None, Options) => Ok(Route::Options(allow)),
            (None, _) => Err(Problem::MethodNotAllowed(allow)),
        }
    }
}

/// The methods of a message.
pub(super) fn item_methods(can_edit: bool) -> &'static str {
    if can_edit { ITEM } else { READ }
}

/// Creates the series of the known routes at 0, so that the first request of each is an increase.
pub(super) fn create_series(requests: &IntCounterVec) {
    for (route, method, statuses) in SERIES {
        for status in *statuses {
            requests.with_label_values(&[route, method, status]);
        }
    }
}

impl Route {
    /// The route's name in metrics and logs, the same for all ids and names.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Route::Page => "/",
            Route::Submit => "/submit",
            Route::List | Route::Create => "/messages",
            Route::Show(_) | Route::Replace(_) | Route::Remove(_) => "/messages/{id}",
            Route::Feed => "/feed.atom",
            Route::Events => "/events",
            Route::Live => "/livez",
            Route::Ready => "/readyz",
            Route::Version => "/version",
            Route::Metrics => "/metrics",
            Route::OpenApi => "/openapi.json",
            Route::Asset(_) => "/assets/{name}",
            Route::Icon => "/favicon.ico",
            Route::Robots => "/robots.txt",
            Route::Options(_) => "OPTIONS",
        }
    }
}

impl Route {
    /// The query parameters that the route knows; others are an error. `None` for pages, the feed, probes and files, which
    /// ignore them: links that are shared gain some, and probes are called in odd ways.
    pub(super) fn parameters(&self) -> Option<&'static [&'static str]> {
        match self {
            Route::List => Some(WINDOW_PARAMETERS),
            Route::Show(_)
            | Route::Events
            | Route::Version
            | Route::OpenApi
            | Route::Submit
            | Route::Create
            | Route::Replace(_)
            | Route::Remove(_) => Some(&[]),
            Route::Page
            | Route::Feed
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::Asset(_)
            | Route::Icon
            | Route::Robots
            | Route::Options(_) => None,
        }
    }
}

impl Route {
    /// Whether its responses have entity tags, so that `If-None-Match` counts.
    pub(super) fn has_entity_tag(&self) -> bool {
        match self {
            Route::List | Route::Show(_) | Route::Feed => true,
            Route::Page
            | Route::Submit
            | Route::Create
            | Route::Replace(_)
            | Route::Remove(_)
            | Route::Events
            | Route::Live
            | Route::Ready
            | Route::Version
            | Route::Metrics
            | Route::OpenApi
            | Route::Asset(_)
            | Route::Icon
            | Route::Robots
            | Route::Options(_) => false,
        }
    }
}

/// A path without its percent-encoding. Nothing for one that is not UTF-8 then, nor for one with an encoded slash: it is no
/// separator, and no route has one in a segment.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let has_slash = path.to_ascii_lowercase().contains("%2f");
    percent_decode_str(path).decode_utf8().ok().filter(|_| !has_slash)
}

/// The id in `/messages/ID`, in the one way to write it.
fn id(path: &str) -> Option<u64> {
    let digits = path.strip_prefix("/messages/")?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn find(method: &str, path: &str) -> Result<Route, Problem> {
        Route::find(&Method::from_str(method).unwrap(), path, true)
    }

    #[test]
    fn head_goes_wherever_get_does() {
        for path in [
            "/",
            "/messages",
            "/messages/7",
            "/feed.atom",
            "/events",
            "/livez",
            "/readyz",
            "/version",
            "/metrics",
            "/openapi.json",
            "/favicon.ico",
            "/robots.txt",
            "/assets/x.css",
        ] {
            assert_eq!(find("GET", path), find("HEAD", path));
            assert!(find("GET", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn old_names_of_the_health_routes_are_kept() {
        for (path, want) in [
            ("/livez", Route::Live),
            ("/health", Route::Live),
            ("/healthz", Route::Live),
            ("/readyz", Route::Ready),
            ("/ready", Route::Ready),
        ] {
            assert_eq!(find("GET", path), Ok(want));
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        for (method, path, allow) in [
            ("POST", "/", READ),
            ("GET", "/submit", WRITE),
            ("DELETE", "/messages", LIST),
            ("POST", "/messages/7", ITEM),
            ("PATCH", "/messages/7", ITEM),
            ("POST", "/livez", READ),
            ("BREW", "/", READ),
            ("PUT", "/assets/x", READ),
        ] {
            assert_eq!(find(method, path), Err(Problem::MethodNotAllowed(allow)), "{method} {path}");
            assert_eq!(find("OPTIONS", path), Ok(Route::Options(allow)), "{path}");
        }
        assert_eq!(find("OPTIONS", "*"), Ok(Route::Options(ANY)));
    }

    #[test]
    fn without_editing_the_methods_for_it_have_a_route_and_are_not_named() {
        let find = |method: &str, path| Route::find(&Method::from_str(method).unwrap(), path, false);
        assert_eq!(find("PUT", "/messages/7"), Ok(Route::Replace(7)));
        assert_eq!(find("DELETE", "/messages/7"), Ok(Route::Remove(7)));
        assert_eq!(find("PATCH", "/messages/7"), Err(Problem::MethodNotAllowed(READ)));
        assert_eq!(find("OPTIONS", "/messages/7"), Ok(Route::Options(READ)));
        assert_eq!(find("OPTIONS", "*"), Ok(Route::Options(LIST)));
    }

    #[test]
    fn every_route_has_series_before_its_first_request() {
        for (method, path) in [
            ("GET", "/"),
            ("POST", "/submit"),
            ("GET", "/messages"),
            ("POST", "/messages"),
            ("GET", "/messages/1"),
            ("PUT", "/messages/1"),
            ("DELETE", "/messages/1"),
            ("GET", "/feed.atom"),
            ("GET", "/events"),
            ("GET", "/livez"),
            ("GET", "/readyz"),
            ("GET", "/version"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("GET", "/assets/x"),
            ("GET", "/favicon.ico"),
            ("GET", "/robots.txt"),
            ("OPTIONS", "/"),
        ] {
            let route = find(method, path).unwrap();
            let known = |series: &&(&str, &str, &[&str])| series.0 == route.template() && series.1 == method;
            assert!(SERIES.iter().any(|series| known(&series)), "{method} {path}");
        }
    }

    #[test]
    fn an_id_is_written_in_one_way() {
        assert_eq!(find("GET", "/messages/7"), Ok(Route::Show(7)));
        assert_eq!(find("GET", "/messages/%37"), Ok(Route::Show(7)));
        for path in ["07", "+7", "-7", "7.0", "7/", "", "0", "x", "18446744073709551616", "7%00"] {
            assert_eq!(find("GET", &format!("/messages/{path}")), Err(Problem::NotFound), "{path:?}");
        }
    }

    #[test]
    fn other_paths_are_not_found_whatever_the_method() {
        for path in [
            "/x",
            "//",
            "/submit/",
            "/../",
            "/%2e%2e/etc/passwd",
            "/.git/config",
            "/%ff",
            "/INDEX",
            "/%",
            "/messages%2F1",
            "/messages%2f1",
        ] {
            for method in ["GET", "POST", "OPTIONS"] {
                assert_eq!(find(method, path), Err(Problem::NotFound), "{method} {path}");
            }
        }
    }
}
