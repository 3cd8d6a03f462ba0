//! How the machine is: what Linux says of its temperature, load, memory and disk.

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::update::disk;

/// A file of `/proc` or `/sys` is not longer than this.
const MIB: u64 = 1 << 20;

/// The machine, where it says so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SystemState {
    /// The hottest of its sensors, degrees Celsius.
    #[serde(default)]
    pub temperature_c: Option<f32>,
    /// Processes that run or want to, over the last 1, 5 and 15 minutes.
    #[serde(default)]
    pub load: [f32; 3],
    /// Processors.
    #[serde(default)]
    pub cores: usize,
    /// What the agent has in memory, MiB.
    #[serde(default)]
    pub memory_mib: u64,
    /// Room on the disk of the state folder, MiB.
    #[serde(default)]
    pub disk_free_mib: u64,
}

impl SystemState {
    /// As it is now. What cannot be read stays empty.
    #[must_use]
    pub fn read(state_dir: &Path) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut load = load.split_whitespace().map(|word| word.parse().unwrap_or_default());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            temperature_c: temperature(Path::new("/sys/class/thermal")),
            load: std::array::from_fn(|_| load.next().unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib.unwrap_or_default() / 1024,
            disk_free_mib: disk::space(state_dir).map_or(0, |(free, _)| free / MIB),
        }
    }
}

/// What kind of processor it has, as far as Linux says so.
#[must_use]
pub fn processor() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
    // x86 names it; of ARM the board says more than the numbers of its cores.
    let named = cpus.lines().find(|line| line.starts_with("model name")).and_then(value);
    let board =
        || fs::read_to_string("/proc/device-tree/model").ok().map(|text| text.trim_end_matches('\0').to_owned());
    named.or_else(board).unwrap_or_default()
}

/// The hottest zone; millidegrees in a file each. What no silicon has is a sensor that is broken.
fn temperature(zones: &Path) -> Option<f32> {
    let zones = fs::read_dir(zones).ok()?.filter_map(Result::ok);
    let millis = zones.filter_map(|zone| fs::read_to_string(zone.path().join("temp")).ok()?.trim().parse::<i32>().ok());
    millis.map(|millis| millis as f32 / 1000.0).filter(|degrees| (-50.0..=150.0).contains(degrees)).reduce(f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_sensor_counts_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(temperature(dir.path()), None);
        for (zone, text) in [("a", "41500\n"), ("b", "63000\n"), ("c", "-274000\n"), ("d", "x")] {
            fs::create_dir(dir.path().join(zone)).unwrap();
            fs::write(dir.path().join(zone).join("temp"), text).unwrap();
        }
        assert_eq!(temperature(dir.path()), Some(63.0));
    }

    #[test]
    fn this_machine_says_something() {
        let state = SystemState::read(Path::new("/"));
        assert!(state.cores > 0 && state.memory_mib > 0 && state.disk_free_mib > 0, "{state:?}");
    }
}
