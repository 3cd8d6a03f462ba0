//! Figures as text for Prometheus (OpenMetrics 1.0). Pure.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::{BOUNDS, Counts};
use super::probe::{CameraFigures, Figures};
use super::{Kind, Stage};
use crate::health::Fault;
use crate::outbox;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Written = Result<(), fmt::Error>;
/// A label.
type Label<'a> = (&'a str, &'a str);

/// All figures.
///
/// # Errors
/// None that figures could cause.
pub fn text(figures: &Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("inspectd");
    registry.register_collector(Box::new(figures.clone()));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Writes families one after another.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<L: EncodeLabelSet, V>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        values: impl IntoIterator<Item = (L, V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> Written,
    ) -> Written {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        values.into_iter().try_for_each(|(labels, value)| write(family.encode_family(&labels)?, value))
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> Written {
        self.family((name, help, MetricType::Gauge), values, |mut metric, value| metric.encode_gauge(&value))
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> Written {
        let write = |mut metric: MetricEncoder<'_>, value| metric.encode_counter::<NoLabelSet, _, u64>(&value, None);
        self.family((name, help, MetricType::Counter), values, write)
    }

    fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, Counts)>,
    ) -> Written {
        let write = |mut metric: MetricEncoder<'_>, counts: Counts| {
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets).collect();
            metric.encode_histogram::<NoLabelSet>(counts.seconds, counts.total(), &buckets, None)
        };
        self.family((name, help, MetricType::Histogram), values, write)
    }
}

const NONE: [Label<'static>; 0] = [];

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> Written {
        let mut out = Families(encoder);
        let model = &self.model;
        let [site, gateway] = &self.whose;
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("site", site), ("gateway", gateway)];
        out.gauges("build_info", "The agent.", [(labels, 1_u64)])?;
        let labels = [("name", &*model.name), ("version", &*model.version), ("sha256", &*model.sha256)];
        out.gauges("model_info", "The active bundle.", [(labels, 1_u64)])?;
        out.gauges("uptime_seconds", "Since the start.", [(NONE, self.uptime.as_secs_f64())])?;
        self.cameras(&mut out)?;
        let stages = Stage::ALL.iter().zip(self.stages).map(|(stage, counts)| ([("stage", stage.as_str())], counts));
        out.histograms("stage_seconds", "How long frames take, by stage.", stages)?;
        out.histograms("latency_seconds", "From capture to verdict.", [(NONE, self.latency)])?;
        let idle = self.idle.iter().map(|(stage, age)| ([("stage", stage.as_str())], age.as_secs_f64()));
        out.gauges("stage_idle_seconds", "Since a stage last went round; 10 s is stuck.", idle)?;
        self.delivery(&mut out)?;
        self.machine(&mut out)
    }
}

impl Figures {
    fn cameras(&self, out: &mut Families) -> Written {
        let of = |value: fn(&CameraFigures) -> u64| {
            self.cameras.iter().map(move |(name, figures)| ([("camera", name.as_str())], value(figures)))
        };
        out.counters("frames_captured", "Pictures that came.", of(|c| c.captured))?;
        out.counters("frames_inspected", "Pictures with a verdict.", of(|c| c.inspected))?;
        out.counters("frames_no_verdict", "Pictures without a verdict.", of(|c| c.no_verdict))?;
        out.counters("frames_dropped", "Pictures for which there was no time.", of(|c| c.dropped))?;
        out.counters("camera_reopened", "How often a camera was lost and came back.", of(|c| c.reopened))?;
        out.counters(
            "alarms_suppressed",
            "Alarms that were not raised because too many were active.",
            of(|c| c.suppressed),
        )?;
        out.gauges("camera_streaming", "Whether the camera is open.", of(|c| u64::from(c.is_streaming)))?;
        let faults = self.cameras.iter().flat_map(|(name, figures)| {
            let labels = move |fault: &Fault| [("camera", name.as_str()), ("fault", fault.as_str())];
            Fault::ALL.iter().map(move |fault| (labels(fault), u64::from(figures.faults.contains(fault))))
        });
        out.gauges("camera_fault", "What is wrong with a camera's picture.", faults)
    }

    fn delivery(&self, out: &mut Families) -> Written {
        let raised = self.raised.iter().map(|(Kind { camera, class, severity }, count)| {
            ([("camera", camera.as_str()), ("class", class.as_str()), ("severity", severity.as_str())], *count)
        });
        out.counters("alarms_raised", "Alarms raised, by camera and class.", raised)?;
        let active = self.active.iter().map(|(severity, count)| ([("severity", severity.as_str())], *count));
        out.gauges("alarms_active", "Alarms that are active.", active)?;
        let readable = u64::from(self.outbox.is_some());
        out.gauges("outbox_readable", "Whether the queue's file can be read.", [(NONE, readable)])?;
        if let Some(outbox) = self.outbox {
            Self::outbox(&outbox, self.oldest.unwrap_or_default().as_secs_f64(), out)?;
        }
        out.counters("broker_connections", "Connections to the broker.", [(NONE, self.broker.connections)])?;
        let help = "How often another client of the same id took over.";
        out.counters("broker_takeovers", help, [(NONE, self.broker.taken_over)])?;
        out.gauges("broker_connected", "Whether the broker is there.", [(NONE, u64::from(self.is_connected))])
    }

    /// What cannot be read is left out: a zero would say that all is well.
    fn outbox(outbox: &outbox::Counts, oldest: f64, out: &mut Families) -> Written {
        out.gauges("outbox_messages", "Messages that wait for the broker.", [(NONE, outbox.queued)])?;
        out.gauges("outbox_oldest_seconds", "For how long the oldest has waited.", [(NONE, oldest)])?;
        let counted = [
            ("outbox_appended", "Messages ever appended.", outbox.appended),
            ("outbox_delivered", "Messages that the broker acknowledged.", outbox.delivered),
            ("outbox_dropped", "Messages given up because the queue was full.", outbox.dropped),
            ("outbox_dead", "Messages that the broker would never take.", outbox.dead),
        ];
        counted.into_iter().try_for_each(|(name, help, value)| out.counters(name, help, [(NONE, value)]))
    }

    fn machine(&self, out: &mut Families) -> Written {
        let system = &self.system;
        let temperature = system.temperature_c.map(|degrees| (NONE, f64::from(degrees)));
        out.gauges("temperature_celsius", "The hottest sensor.", temperature)?;
        let bytes = |mib: u64| mib.saturating_mul(1 << 20);
        out.gauges("memory_bytes", "What the agent has in memory.", [(NONE, bytes(system.memory_mib))])?;
        out.gauges("disk_free_bytes", "Room on the disk of the state folder.", [(NONE, bytes(system.disk_free_mib))])?;
        out.gauges("load1", "Processes that run or want to, over a minute.", [(NONE, f64::from(system.load[0]))])?;
        out.gauges("cores", "Processors.", [(NONE, system.cores as u64)])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Severity;
    use crate::metrics::histogram::Histogram;

    fn figures() -> Figures {
        let histogram = Histogram::default();
        histogram.add(Duration::from_millis(9));
        histogram.add(Duration::from_secs(11));
        let camera = CameraFigures { captured: 7, inspected: 5, faults: vec![Fault::Dark], ..CameraFigures::default() };
        Figures {
            cameras: [("line \"1\"\n".to_owned(), camera)].into(),
            latency: histogram.counts(),
            raised: [(Kind { camera: "a".into(), class: "steel/*".into(), severity: Severity::Major }, 3)].into(),
            outbox: Some(outbox::Counts { appended: 4, delivered: 4, ..outbox::Counts::default() }),
            ..Figures::default()
        }
    }

    #[test]
    fn each_line_is_one_that_prometheus_reads() {
        let text = text(&figures()).unwrap();
        for line in [
            "inspectd_frames_captured_total{camera=\"line \\\"1\\\"\\n\"} 7",
            "inspectd_camera_fault{camera=\"line \\\"1\\\"\\n\",fault=\"dark\"} 1",
            "inspectd_camera_fault{camera=\"line \\\"1\\\"\\n\",fault=\"moved\"} 0",
            "inspectd_alarms_raised_total{camera=\"a\",class=\"steel/*\",severity=\"major\"} 3",
            "inspectd_latency_seconds_bucket{le=\"0.01\"} 1",
            "inspectd_latency_seconds_bucket{le=\"+Inf\"} 2",
            "inspectd_latency_seconds_count 2",
            "inspectd_outbox_dropped_total 0",
            "inspectd_stage_seconds_count{stage=\"forward\"} 0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let unread = super::text(&Figures { outbox: None, ..figures() }).unwrap();
        assert!(
            unread.contains("inspectd_outbox_readable 0\n") && !unread.contains("inspectd_outbox_messages"),
            "{unread}"
        );
        assert!(!text.lines().any(|line| line.starts_with("inspectd_temperature")), "what is unknown is not zero");
        let sum = text.lines().find_map(|line| line.strip_prefix("inspectd_latency_seconds_sum ")).unwrap();
        assert!((sum.parse::<f64>().unwrap() - 11.009).abs() < 1e-9);
    }
}
