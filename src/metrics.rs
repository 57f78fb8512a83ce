//! What is counted: every metric's name, labels and meaning, and the text that Prometheus reads.
//!
//! One set for the process, reached from wherever something happens, as the log is. Labels are names from the code, never
//! what a client sent. Nothing here knows what is counted, and reading it touches nothing but these numbers.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::lifecycle::Readiness;

/// All of them.
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
    /// Connections turned away at the listener, by `reason`.
    pub connections_refused: IntCounterVec,
    /// Connections that have ended, by `reason`.
    pub connections_closed: IntCounterVec,
    /// Jobs in a batch, by `batch queue`.
    pub batch_jobs: HistogramVec,
    /// Jobs that wait, by `batch queue`.
    pub waiting_jobs: IntGaugeVec,
    /// Jobs that were not done, by `batch queue` and `reason`.
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
    ready: IntGauge,
    writable: IntGauge,
    not_ready: IntGaugeVec,
    server: IntGaugeVec,
    waiting_jobs_limit: IntGaugeVec,
    /// Statements that were run again, by `cause`.
    pub database_retries: IntCounterVec,
    /// Lines of the log that nobody read in time.
    pub log_lines_dropped: IntCounter,
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
    /// Jobs that had waited too long for their turn.
    pub queue_timeout: IntCounter,
}

/// From a tenth of a millisecond to what a client may wait for at most.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const JOBS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The metrics of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "it depends on the names below alone, and every test would fail")]
    Metrics::new().expect("names and labels are well formed and differ")
});

impl Metrics {
    fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).and_then(|m| registered(&registry, m))
        };
        let histograms = |name, help, labels: &[&str], buckets: &[f64]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)
                .and_then(|m| registered(&registry, m))
        };
        let gauges = |name, help, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).and_then(|m| registered(&registry, m))
        };

        let gauge = |name, help| IntGauge::new(name, help).and_then(|m| registered(&registry, m));
        let counter = |name, help| IntCounter::new(name, help).and_then(|m| registered(&registry, m));

        let build = gauges("twotier_build_info", "Always 1; what runs.", &["version", "commit"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("TWOTIER_COMMIT").unwrap_or_default()]).set(1);
        let start = registered(&registry, Gauge::new("process_start_time_seconds", "Start, in Unix time.")?)?;
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());

        let connections = gauges(
            "twotier_http_connections",
            "Connections of clients by what they are doing, as counted five times a second.",
            &["state"],
        )?;
        for state in ["idle", "reading", "handling", "writing", "closing"] {
            connections.with_label_values(&[state]);
        }
        let connections_refused = counters(
            "twotier_http_connections_refused_total",
            "Connections that got a 503 instead of being served: the client had too many, or all slots were taken.",
            &["reason"],
        )?;
        for reason in ["client_limit", "full"] {
            connections_refused.with_label_values(&[reason]);
        }

        Ok(Metrics {
            requests: counters(
                "twotier_http_requests_total",
                "Requests answered; the route is - for what was none.",
                &["route", "method", "status"],
            )?,
            request_seconds: histograms(
                "twotier_http_request_duration_seconds",
                "From the arrival of a whole request to its answer.",
                &["route"],
                SECONDS,
            )?,
            rate_limited: counter("twotier_rate_limited_total", "Submits refused because their client sent too many.")?,
            rate_limit: gauge("twotier_rate_limit_submits_per_minute", "RATE_LIMIT for one client; 0 when it is off.")?,
            message_limit: gauge("twotier_message_characters_limit", "MAX_MESSAGE_CHARS.")?,
            connections,
            connections_limit: registered(
                &registry,
                IntGauge::new("twotier_http_connections_limit", "Connections that are served at the same time.")?,
            )?,
            connections_per_client_limit: registered(
                &registry,
                IntGauge::new(
                    "twotier_http_connections_per_client_limit",
                    "Connections of one client that are served at the same time.",
                )?,
            )?,
            connections_refused,
            connections_closed: counters(
                "twotier_http_connections_closed_total",
                "Connections that have ended, by what ended them.",
                &["reason"],
            )?,
            batch_jobs: histograms(
                "twotier_batch_queue_batch_requests",
                "Requests that one batch of a batch queue answers.",
                &["queue"],
                JOBS,
            )?,
            waiting_jobs: gauges(
                "twotier_batch_queue_waiting_requests",
                "Requests that wait in a batch queue.",
                &["queue"],
            )?,
            rejected_jobs: counters(
                "twotier_batch_queue_rejected_requests_total",
                "Requests that a batch queue did not try: full, behind an outage, or late.",
                &["queue", "reason"],
            )?,
            statement_seconds: histograms(
                "twotier_database_statement_duration_seconds",
                "Round trips of statements to the database, failed ones too.",
                &["statement"],
                SECONDS,
            )?,
            database_connections: registered(
                &registry,
                IntGauge::new("twotier_database_connections", "Connections to the database.")?,
            )?,
            database_connections_limit: gauge(
                "twotier_database_connections_limit",
                "Connections to the database that there may be (DB_CONNECTIONS).",
            )?,
            database_connects: counters(
                "twotier_database_connect_errors_total",
                "Connects to the database that failed, by cause.",
                &["cause"],
            )?,
            database_errors: counters(
                "twotier_database_errors_total",
                "Statements that failed, by cause.",
                &["cause"],
            )?,
            messages_stored: counter("twotier_messages_stored_total", "Messages that were stored.")?,
            messages_replayed: counter(
                "twotier_messages_replayed_total",
                "Submits that were answered with the message that their idempotency key had stored before.",
            )?,
            ready: gauge("twotier_ready", "Whether /readyz answers 200.")?,
            writable: gauge("twotier_database_writable", "Whether messages can be stored.")?,
            not_ready: gauges(
                "twotier_not_ready_info",
                "1 for the reason why the service is not ready, or takes no writes.",
                &["reason"],
            )?,
            server: gauges(
                "twotier_database_server_info",
                "1 for the database server in use.",
                &["server", "version"],
            )?,
            waiting_jobs_limit: gauges(
                "twotier_batch_queue_waiting_requests_limit",
                "Requests that may wait in a batch queue.",
                &["queue"],
            )?,
            database_retries: counters(
                "twotier_database_retries_total",
                "Statements that were run again, by what went wrong.",
                &["cause"],
            )?,
            log_lines_dropped: registered(
                &registry,
                IntCounter::new("twotier_log_lines_dropped_total", "Lines of the log that were not read fast enough.")?,
            )?,
            registry,
        })
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
        // A String takes all that is written to it.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
