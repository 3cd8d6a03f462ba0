//! The configuration file; a wrong one is refused with a place that exists in it.
#![no_main]

use inspectd::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "inspectd.toml") {
        Ok(config) => {
            // What was read can be written and is the same then.
            let text = toml::to_string(&config).expect("a configuration is TOML");
            let again = Config::parse(&text, "again.toml").expect("its TOML is a configuration");
            assert_eq!(toml::to_string(&again).expect("a configuration is TOML"), text);
        }
        Err(e) => {
            let (said, lines) = (e.to_string(), text.matches('\n').count() + 1);
            let line = said.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{said} is beyond {lines} lines");
        }
    }
});
