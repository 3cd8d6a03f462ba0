//! What counts: severity, size, score and zones by class and camera, as the configuration has them. Pure.

use crate::config::RuleConfig;
use crate::glob::glob;
use crate::mqtt::payload::Finding;

/// Keeps what counts of a frame's findings, with the severity that the rules give it.
pub fn apply(rules: &[RuleConfig], camera: &str, frame: (u32, u32), findings: &mut Vec<Finding>) {
    findings.retain_mut(|finding| {
        let matching =
            rules.iter().filter(|rule| matches(&rule.cameras, camera) && matches(&rule.classes, &finding.class));
        let mut severity = finding.severity;
        for rule in matching {
            if !counts(rule, finding, frame) {
                return false;
            }
            severity = rule.severity.unwrap_or(severity);
        }
        finding.severity = severity;
        true
    });
}

fn matches(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| glob(pattern, name))
}

fn counts(rule: &RuleConfig, finding: &Finding, frame: (u32, u32)) -> bool {
    let [x0, y0, x1, y1] = finding.bbox;
    let middle = [f32::midpoint(x0, x1) / frame.0 as f32, f32::midpoint(y0, y1) / frame.1 as f32];
    let size = f64::from((x1 - x0).max(y1 - y0));
    rule.min_size.is_none_or(|least| size >= least.get())
        && rule.min_score.is_none_or(|least| f64::from(finding.score) >= least.get())
        && (rule.include.is_empty() || rule.include.iter().any(|zone| zone.holds(middle)))
        && !rule.exclude.iter().any(|zone| zone.holds(middle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AlarmConfig, Severity};
    use crate::mqtt::payload::AlarmKind;

    fn kept(rules: &str, camera: &str, class: &str, bbox: [f32; 4]) -> Option<Severity> {
        let config: AlarmConfig = toml::from_str(rules).unwrap();
        let (kind, class, severity, score) = (AlarmKind::Defect, class.to_owned(), Severity::Major, 0.6);
        let mut findings = vec![Finding { kind, class, severity, score, bbox, look: None, appearance: None }];
        apply(&config.rules, camera, (100, 200), &mut findings);
        findings.first().map(|finding| finding.severity)
    }

    #[test]
    fn what_counts_where() {
        let middle = [45.0, 90.0, 55.0, 110.0];
        let kept = |rules: &str| kept(rules, "line-1", "steel/dent", middle);
        assert_eq!(kept(""), Some(Severity::Major));
        for (rule, counts) in [
            ("min_size = 20", true),
            ("min_size = 20.5", false),
            ("min_score = 0.7", false),
            ("include = [[0.0, 0.0, 0.4, 1.0]]", false),
            ("include = [[0.0, 0.0, 0.4, 1.0], [[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]]", true),
            ("exclude = [[0.4, 0.4, 0.6, 0.6]]", false),
            ("exclude = [[0.4, 0.4, 0.6, 0.6]]\nclasses = [\"pcb/*\"]", true),
            ("exclude = [[0.4, 0.4, 0.6, 0.6]]\ncameras = [\"line-2\"]", true),
            ("exclude = [[0.4, 0.4, 0.6, 0.6]]\ncameras = [\"line-*\"]", false),
        ] {
            assert_eq!(kept(&format!("[[rules]]\n{rule}")).is_some(), counts, "{rule}");
        }
    }

    #[test]
    fn the_last_severity_has_the_say() {
        let rules = "[[rules]]\nseverity = \"minor\"\n[[rules]]\nclasses = [\"steel/*\"]\nseverity = \"critical\"";
        assert_eq!(kept(rules, "a", "steel/dent", [0.0; 4]), Some(Severity::Critical));
        assert_eq!(kept(rules, "a", "pcb/open", [0.0; 4]), Some(Severity::Minor));
    }
}
