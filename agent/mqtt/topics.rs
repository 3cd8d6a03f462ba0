//! Topic names, as the contract has them.

/// The topics of one gateway.
#[derive(Debug, Clone)]
pub struct Topics {
    root: String,
    site: String,
}

impl Topics {
    /// `inspect/v1/{site}/{gateway}`
    #[must_use]
    pub fn new(site: &str, gateway: &str) -> Self {
        Self { root: format!("inspect/v1/{site}/{gateway}"), site: format!("inspect/v1/{site}") }
    }

    /// The gateway's state, retained, also the last will.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{}/state", self.root)
    }

    /// A camera's state, retained.
    #[must_use]
    pub fn camera_state(&self, camera: &str) -> String {
        format!("{}/cameras/{camera}/state", self.root)
    }

    /// A camera's inspected frames.
    #[must_use]
    pub fn results(&self, camera: &str) -> String {
        format!("{}/cameras/{camera}/results", self.root)
    }

    /// An alarm's present state, retained while it is active.
    #[must_use]
    pub fn alarm(&self, id: &str) -> String {
        format!("{}/alarms/{id}", self.root)
    }

    /// Every transition of every alarm.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}/events", self.root)
    }

    /// A command to the gateway.
    #[must_use]
    pub fn order(&self, command: &str, id: &str) -> String {
        format!("{}/commands/{command}/{id}", self.root)
    }

    /// What to subscribe to for commands.
    #[must_use]
    pub fn commands(&self) -> String {
        format!("{}/commands/+/+", self.root)
    }

    /// The command and the id in a topic that [`Topics::commands`] matches.
    #[must_use]
    pub fn command<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        topic.strip_prefix(&self.root)?.strip_prefix("/commands/")?.split_once('/').filter(|(_, id)| !id.contains('/'))
    }

    /// What to subscribe to for what was taught at this site.
    #[must_use]
    pub fn lessons(&self) -> String {
        format!("{}/taught/#", self.site)
    }

    /// A class that was taught, retained for the whole site.
    #[must_use]
    pub fn lesson(&self, class: &str) -> String {
        format!("{}/taught/{class}", self.site)
    }

    /// The class in a topic that [`Topics::lessons`] matches.
    #[must_use]
    pub fn taught<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.site)?.strip_prefix("/taught/")
    }

    /// What this gateway, and what its site, shall take up.
    #[must_use]
    pub fn desired(&self) -> [String; 2] {
        [&self.root, &self.site].map(|root| format!("{root}/model/desired"))
    }

    /// How far an update is, retained.
    #[must_use]
    pub fn reported(&self) -> String {
        format!("{}/model/reported", self.root)
    }

    /// A chunk of a file with this hash, retained during a rollout.
    #[must_use]
    pub fn blob(&self, sha256: &str, n: usize) -> String {
        format!("{}/blobs/{sha256}/{n}", self.site)
    }

    /// The reply to a command.
    #[must_use]
    pub fn reply(&self, id: &str) -> String {
        format!("{}/replies/{id}", self.root)
    }

    /// A snapshot.
    #[must_use]
    pub fn image(&self, sha256: &str) -> String {
        format!("{}/images/{sha256}", self.root)
    }
}
