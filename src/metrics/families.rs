//! Making metrics and registering them. Knows no metric by name.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// A metric's name, what it counts, and its labels.
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

/// Makes metrics and registers them.
pub(super) struct Families {
    pub(super) registry: Registry,
}

impl Families {
    pub(super) fn counter(&self, d: &Description) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(d.name, d.help)?)
    }

    pub(super) fn gauge(&self, d: &Description) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(d.name, d.help)?)
    }

    pub(super) fn counters(&self, d: &Description) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(d.name, d.help), d.labels)?)
    }

    pub(super) fn gauges(&self, d: &Description) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(d.name, d.help), d.labels)?)
    }

    pub(super) fn histograms(&self, d: &Description, buckets: &[f64]) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(d.name, d.help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, d.labels)?)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
