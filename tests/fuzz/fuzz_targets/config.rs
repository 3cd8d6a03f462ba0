//! The configuration file; a wrong one is refused with a place that exists in it.
#![no_main]

use inspectd::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "inspectd.toml") {
        Ok(config) => {
            // A reload compares effective values by this, and reads the same out of the same.
            let values = serde_json::to_value(&config).expect("a configuration has values");
            let again = Config::parse(text, "again.toml").expect("it was read a moment ago");
            assert_eq!(serde_json::to_value(&again).expect("a configuration has values"), values);
        }
        Err(e) => {
            let (said, lines) = (e.to_string(), text.matches('\n').count() + 1);
            let line = said.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{said} is beyond {lines} lines");
        }
    }
});
