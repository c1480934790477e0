//! This file makes metric families and writes them as text.

use std::io;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// Writes families as text; those without a sample are left out.
pub(super) fn encode(mut families: Vec<MetricFamily>) -> io::Result<String> {
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families).map_err(io::Error::other)
}

/// Makes a family of these samples.
pub(super) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    samples: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples.into_iter().collect());
    family
}

/// Makes a sample of a gauge.
pub(super) fn gauge(label: Option<(&str, &str)>, value: usize) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = labelled(label);
    metric.set_gauge(gauge);
    metric
}

/// Makes a sample of a counter.
pub(super) fn counter(label: Option<(&str, &str)>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = labelled(label);
    metric.set_counter(counter);
    metric
}

fn labelled(label: Option<(&str, &str)>) -> Metric {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(label.map(pair).into_iter().collect())
}
