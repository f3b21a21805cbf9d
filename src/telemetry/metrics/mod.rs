//! Metrics: [`table`] has all of them, and [`Samples`] takes values of those and no others and gives the text that
//! Prometheus reads.

pub mod table;

use crate::error::{Error, Kind, Result};
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};
use std::collections::BTreeMap;
use table::{Metric, Type};

/// The media type of the text.
pub const MEDIA: &str = prometheus::TEXT_FORMAT;

/// Values of metrics. A second value of the same metric and labels replaces the first.
#[derive(Clone, Debug, Default)]
pub struct Samples(BTreeMap<&'static str, (&'static Metric, BTreeMap<Vec<String>, f64>)>);

impl Samples {
    /// Sets a value; the labels are those of the table, in its order.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        self.0.entry(metric.name).or_insert_with(|| (metric, BTreeMap::new())).1.insert(labels, value);
    }

    /// The text, with help and type of each metric.
    ///
    /// # Errors
    /// [`Kind::Internal`] when a value has other labels than the table says.
    pub fn text(&self) -> Result<String> {
        let failed = |e: prometheus::Error| Error::new(Kind::Internal, "the metrics cannot be written").because(e);
        let registry = Registry::new();
        for (metric, values) in self.0.values() {
            let options = Opts::new(metric.name, metric.help);
            match metric.kind {
                Type::Gauge => {
                    let gauge = GaugeVec::new(options, metric.labels).map_err(failed)?;
                    for (labels, value) in values {
                        gauge.get_metric_with_label_values(labels).map_err(failed)?.set(*value);
                    }
                    registry.register(Box::new(gauge)).map_err(failed)?;
                }
                Type::Counter => {
                    let counter = CounterVec::new(options, metric.labels).map_err(failed)?;
                    for (labels, value) in values {
                        counter.get_metric_with_label_values(labels).map_err(failed)?.inc_by(*value);
                    }
                    registry.register(Box::new(counter)).map_err(failed)?;
                }
            }
        }
        TextEncoder::new().encode_to_string(&registry.gather()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text_and_wrong_labels_an_error() {
        let mut samples = Samples::default();
        samples.set(&table::BUILD_INFO, &["1.2.3\"x"], 1.0);
        samples.set(&table::RUNS, &["h", "backup", "p", "success"], 3.0);
        let text = samples.text().unwrap();
        assert!(
            text.contains("# TYPE backstay_build_info gauge\nbackstay_build_info{version=\"1.2.3\\\"x\"} 1\n"),
            "{text}"
        );
        let counter = "backstay_runs_total{host=\"h\",plan=\"p\",result=\"success\",verb=\"backup\"} 3";
        assert!(text.contains(counter), "{text}");
        samples.set(&table::RUNS, &["h"], 3.0);
        assert!(samples.text().is_err());
    }
}
