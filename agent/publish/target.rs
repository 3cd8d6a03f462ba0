//! Which gateways a command is for: `SITE/GATEWAY`.

use std::fmt;
use std::str::FromStr;

use crate::config::Name;

/// A site, and a pattern of gateways in it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The site.
    pub site: String,
    /// Names of gateways, in which `*` is any text.
    pub gateway: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (site, gateway) = text.split_once('/').ok_or("it is SITE/GATEWAY, as plant-1/gw-1 or plant-1/*")?;
        let site = Name::new(site)?.to_string();
        // A pattern is a name, but for its stars.
        if gateway.is_empty() || !gateway.chars().all(|c| c == '*' || Name::new(&c.to_string()).is_ok()) {
            return Err(format!("{gateway:?} is no pattern of gateways"));
        }
        Ok(Self { site, gateway: gateway.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.gateway)
    }
}
