//! The metrics: every name with its labels and meaning, and the text that Prometheus reads.
//!
//! One set for the process, reached from everywhere, as the log is. Values of labels are names from the code, never text
//! that a client sent. Reading the metrics touches nothing but these numbers and the kernel's count of this process's memory.

mod families;
mod memory;

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::lifecycle::Readiness;
use families::{Description, Families};

/// All metrics.
pub struct Metrics {
    /// Requests answered, by `route`, `method` and `status`.
    pub requests: IntCounterVec,
    /// From a request's arrival to its answer's first byte, by `route`.
    pub request_seconds: HistogramVec,
    /// Submits above `RATE_LIMIT`.
    pub rate_limited: IntCounter,
    /// `RATE_LIMIT`; 0 when it is off.
    pub rate_limit: IntGauge,
    /// `MAX_MESSAGE_CHARS`.
    pub message_limit: IntGauge,
    /// Connections, by `state`.
    pub connections: IntGaugeVec,
    /// Connections that are served at the same time, at most.
    pub connections_limit: IntGauge,
    /// Connections of one client that are served at the same time, at most.
    pub connections_per_client_limit: IntGauge,
    /// Connections that got a 503 instead of being served, by `reason`.
    pub connections_refused: IntCounterVec,
    /// Connections that have ended, by `reason`.
    pub connections_closed: IntCounterVec,
    /// Jobs in a batch, by `queue`.
    pub batch_jobs: HistogramVec,
    /// Jobs that wait, by `queue`.
    pub waiting_jobs: IntGaugeVec,
    /// Jobs that were rejected, by `queue` and `reason`.
    pub rejected_jobs: IntCounterVec,
    /// What statements took, by `statement`.
    pub statement_seconds: HistogramVec,
    /// Connections to the database.
    pub database_connections: IntGauge,
    /// Connections to the database that there may be.
    pub database_connections_limit: IntGauge,
    /// Failed connects, by `result`.
    pub database_connects: IntCounterVec,
    /// Statements that failed, by `cause`.
    pub database_errors: IntCounterVec,
    /// Messages that were stored.
    pub messages_stored: IntCounter,
    /// Submits whose key had been stored before.
    pub messages_replayed: IntCounter,
    /// Streams of the live feed that are open.
    pub live_streams: IntGauge,
    /// Streams of the live feed that may be open.
    pub live_streams_limit: IntGauge,
    /// Streams of the live feed whose clients were too slow.
    pub live_streams_dropped: IntCounter,
    /// Events of the live feed, by `event`.
    pub live_events: IntCounterVec,
    /// Reads for the live feed, by `result`.
    pub live_ticks: IntCounterVec,
    ready: IntGauge,
    writable: IntGauge,
    not_ready: IntGaugeVec,
    server: IntGaugeVec,
    waiting_jobs_limit: IntGaugeVec,
    /// Statements that were repeated, by `cause`.
    pub database_retries: IntCounterVec,
    /// Log lines that were dropped, because stderr was not read fast enough.
    pub log_lines_dropped: IntCounter,
    resident_memory: IntGauge,
    registry: Registry,
}

/// The metrics of one batch queue.
#[derive(Clone)]
pub struct BatchQueueMetrics {
    /// Jobs in a batch.
    pub batch_jobs: Histogram,
    /// Jobs that wait.
    pub waiting_jobs: IntGauge,
    /// Jobs that may wait.
    pub waiting_jobs_limit: IntGauge,
    /// Jobs that found the batch queue full.
    pub full: IntCounter,
    /// Jobs that waited when a batch before them met an outage.
    pub backend_down: IntCounter,
    /// Jobs that had waited too long.
    pub queue_timeout: IntCounter,
}

/// From a tenth of a millisecond to what a client may wait for at most.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const JOBS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const BUILD_INFO: Description = Description {
    name: "twotier_build_info",
    help: "Always 1; version and commit of the program.",
    labels: &["version", "commit"],
};
const CONNECTIONS: Description = Description {
    name: "twotier_http_connections",
    help: "Connections of clients by what they are doing, as counted five times a second.",
    labels: &["state"],
};
const CONNECTIONS_REFUSED: Description = Description {
    name: "twotier_http_connections_refused_total",
    help: "Connections that got a 503 instead of being served: the client had too many, or all slots were taken.",
    labels: &["reason"],
};
const REQUESTS: Description = Description {
    name: "twotier_http_requests_total",
    help: "HTTP requests answered; the route is - for unknown routes.",
    labels: &["route", "method", "status"],
};
const REQUEST_SECONDS: Description = Description {
    name: "twotier_http_request_duration_seconds",
    help: "From the arrival of a complete request to its response.",
    labels: &["route"],
};
const RATE_LIMITED: Description = Description {
    name: "twotier_rate_limited_total",
    help: "Submits refused because their client sent too many.",
    labels: &[],
};
const RATE_LIMIT: Description = Description {
    name: "twotier_rate_limit_submits_per_minute",
    help: "RATE_LIMIT for one client; 0 when it is off.",
    labels: &[],
};
const MESSAGE_LIMIT: Description =
    Description { name: "twotier_message_characters_limit", help: "MAX_MESSAGE_CHARS.", labels: &[] };
const CONNECTIONS_LIMIT: Description = Description {
    name: "twotier_http_connections_limit",
    help: "Connections that are served at the same time.",
    labels: &[],
};
const CONNECTIONS_PER_CLIENT_LIMIT: Description = Description {
    name: "twotier_http_connections_per_client_limit",
    help: "Connections of one client that are served at the same time.",
    labels: &[],
};
const CONNECTIONS_CLOSED: Description = Description {
    name: "twotier_http_connections_closed_total",
    help: "Connections that have ended, by what ended them.",
    labels: &["reason"],
};
const BATCH_JOBS: Description = Description {
    name: "twotier_batch_queue_batch_requests",
    help: "Requests that one batch of a batch queue answers.",
    labels: &["queue"],
};
const WAITING_JOBS: Description = Description {
    name: "twotier_batch_queue_waiting_requests",
    help: "Requests that wait in a batch queue.",
    labels: &["queue"],
};
const REJECTED_JOBS: Description = Description {
    name: "twotier_batch_queue_rejected_requests_total",
    help: "Requests that a batch queue rejected: it was full, the database was down, or they had waited too long.",
    labels: &["queue", "reason"],
};
const STATEMENT_SECONDS: Description = Description {
    name: "twotier_database_statement_duration_seconds",
    help: "Round trips of statements to the database, failed ones too.",
    labels: &["statement"],
};
const DATABASE_CONNECTIONS: Description =
    Description { name: "twotier_database_connections", help: "Connections to the database.", labels: &[] };
const DATABASE_CONNECTIONS_LIMIT: Description = Description {
    name: "twotier_database_connections_limit",
    help: "Connections to the database that there may be (DB_CONNECTIONS).",
    labels: &[],
};
const DATABASE_CONNECTS: Description = Description {
    name: "twotier_database_connect_errors_total",
    help: "Connects to the database that failed, by cause.",
    labels: &["cause"],
};
const DATABASE_ERRORS: Description = Description {
    name: "twotier_database_errors_total",
    help: "Statements that failed, by cause.",
    labels: &["cause"],
};
const MESSAGES_STORED: Description =
    Description { name: "twotier_messages_stored_total", help: "Messages that were stored.", labels: &[] };
const MESSAGES_REPLAYED: Description = Description {
    name: "twotier_messages_replayed_total",
    help: "Submits that were answered with the message that their idempotency key had stored before.",
    labels: &[],
};
const LIVE_STREAMS: Description =
    Description { name: "twotier_live_streams", help: "Streams of /events that are open.", labels: &[] };
const LIVE_STREAMS_LIMIT: Description =
    Description { name: "twotier_live_streams_limit", help: "Streams of /events that may be open.", labels: &[] };
const LIVE_STREAMS_DROPPED: Description = Description {
    name: "twotier_live_streams_dropped_total",
    help: "Streams of /events that were closed because their client read too slowly.",
    labels: &[],
};
const LIVE_EVENTS: Description = Description {
    name: "twotier_live_events_total",
    help: "Events of /events, each counted once for all streams.",
    labels: &["event"],
};
const LIVE_TICKS: Description =
    Description { name: "twotier_live_ticks_total", help: "Reads of the database for /events.", labels: &["result"] };
const READY: Description = Description { name: "twotier_ready", help: "Whether /readyz answers 200.", labels: &[] };
const WRITABLE: Description =
    Description { name: "twotier_database_writable", help: "Whether messages can be stored.", labels: &[] };
const NOT_READY: Description = Description {
    name: "twotier_not_ready_info",
    help: "1 for the reason why the service is not ready, or takes no writes.",
    labels: &["reason"],
};
const SERVER: Description = Description {
    name: "twotier_database_server_info",
    help: "1 for the database server in use.",
    labels: &["server", "version"],
};
const WAITING_JOBS_LIMIT: Description = Description {
    name: "twotier_batch_queue_waiting_requests_limit",
    help: "Requests that may wait in a batch queue.",
    labels: &["queue"],
};
const DATABASE_RETRIES: Description = Description {
    name: "twotier_database_retries_total",
    help: "Statements that were repeated, by cause.",
    labels: &["cause"],
};
const LOG_LINES_DROPPED: Description = Description {
    name: "twotier_log_lines_dropped_total",
    help: "Log lines that were dropped, because stderr was not read fast enough.",
    labels: &[],
};

const RESIDENT_MEMORY: Description =
    Description { name: "process_resident_memory_bytes", help: "Resident memory of this process.", labels: &[] };
const MEMORY_LIMIT: Description = Description {
    name: "twotier_memory_limit_bytes",
    help: "Limit of memory of the container or unit; 0 when there is none.",
    labels: &[],
};

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "it depends on the names below alone, and every test would fail")]
    Metrics::new().expect("names and labels are well formed and differ")
});

impl Metrics {
    fn new() -> Result<Metrics, prometheus::Error> {
        let families = Families { registry: Registry::new() };
        let build = families.gauges(&BUILD_INFO)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("TWOTIER_COMMIT").unwrap_or_default()]).set(1);
        let start = Gauge::new("process_start_time_seconds", "Start, in Unix time.")?;
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        families.registry.register(Box::new(start))?;
        families.gauge(&MEMORY_LIMIT)?.set(memory::limit().unwrap_or_default());
        let metrics = Metrics {
            connections: families.gauges(&CONNECTIONS)?,
            connections_refused: families.counters(&CONNECTIONS_REFUSED)?,
            requests: families.counters(&REQUESTS)?,
            request_seconds: families.histograms(&REQUEST_SECONDS, SECONDS)?,
            rate_limited: families.counter(&RATE_LIMITED)?,
            rate_limit: families.gauge(&RATE_LIMIT)?,
            message_limit: families.gauge(&MESSAGE_LIMIT)?,
            connections_limit: families.gauge(&CONNECTIONS_LIMIT)?,
            connections_per_client_limit: families.gauge(&CONNECTIONS_PER_CLIENT_LIMIT)?,
            connections_closed: families.counters(&CONNECTIONS_CLOSED)?,
            batch_jobs: families.histograms(&BATCH_JOBS, JOBS)?,
            waiting_jobs: families.gauges(&WAITING_JOBS)?,
            rejected_jobs: families.counters(&REJECTED_JOBS)?,
            statement_seconds: families.histograms(&STATEMENT_SECONDS, SECONDS)?,
            database_connections: families.gauge(&DATABASE_CONNECTIONS)?,
            database_connections_limit: families.gauge(&DATABASE_CONNECTIONS_LIMIT)?,
            database_connects: families.counters(&DATABASE_CONNECTS)?,
            database_errors: families.counters(&DATABASE_ERRORS)?,
            messages_stored: families.counter(&MESSAGES_STORED)?,
            messages_replayed: families.counter(&MESSAGES_REPLAYED)?,
            live_streams: families.gauge(&LIVE_STREAMS)?,
            live_streams_limit: families.gauge(&LIVE_STREAMS_LIMIT)?,
            live_streams_dropped: families.counter(&LIVE_STREAMS_DROPPED)?,
            live_events: families.counters(&LIVE_EVENTS)?,
            live_ticks: families.counters(&LIVE_TICKS)?,
            ready: families.gauge(&READY)?,
            writable: families.gauge(&WRITABLE)?,
            not_ready: families.gauges(&NOT_READY)?,
            server: families.gauges(&SERVER)?,
            waiting_jobs_limit: families.gauges(&WAITING_JOBS_LIMIT)?,
            database_retries: families.counters(&DATABASE_RETRIES)?,
            log_lines_dropped: families.counter(&LOG_LINES_DROPPED)?,
            resident_memory: families.gauge(&RESIDENT_MEMORY)?,
            registry: families.registry,
        };
        for state in ["idle", "reading", "handling", "writing", "streaming", "closing"] {
            metrics.connections.with_label_values(&[state]);
        }
        for event in ["message", "edit", "delete", "reset"] {
            metrics.live_events.with_label_values(&[event]);
        }
        for result in ["ok", "failed"] {
            metrics.live_ticks.with_label_values(&[result]);
        }
        for reason in ["client_limit", "full"] {
            metrics.connections_refused.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    /// The metrics of the batch queue called `name`.
    pub fn batch_queue(&self, name: &'static str) -> BatchQueueMetrics {
        let rejected = |reason| self.rejected_jobs.with_label_values(&[name, reason]);
        BatchQueueMetrics {
            batch_jobs: self.batch_jobs.with_label_values(&[name]),
            waiting_jobs: self.waiting_jobs.with_label_values(&[name]),
            waiting_jobs_limit: self.waiting_jobs_limit.with_label_values(&[name]),
            full: rejected("full"),
            backend_down: rejected("backend_down"),
            queue_timeout: rejected("queue_timeout"),
        }
    }

    /// Sets whether the service is ready and takes writes, and why not.
    pub fn set_readiness(&self, readiness: Readiness) {
        let (ready, writable, reason) = match readiness {
            Readiness::Ready => (1, 1, None),
            Readiness::ReadOnly(reason) => (1, 0, Some(reason)),
            Readiness::NotReady(reason) => (0, 0, Some(reason)),
        };
        self.ready.set(ready);
        self.writable.set(writable);
        self.not_ready.reset();
        if let Some(reason) = reason {
            self.not_ready.with_label_values(&[reason.label]).set(1);
        }
    }

    /// Sets the database server in use.
    pub fn set_database_server(&self, server: &str, version: &str) {
        self.server.reset();
        self.server.with_label_values(&[server, version]).set(1);
    }

    /// All of them in the text format 0.0.4 of Prometheus.
    pub fn text(&self) -> String {
        self.resident_memory.set(memory::resident().unwrap_or_default());
        // A String takes all that is written to it.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
