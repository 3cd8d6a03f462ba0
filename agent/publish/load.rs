//! A release and its bundle, as they were signed: out of folders, or out of one file that `inspectd model pack` has made.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};

use super::rollout::Part;
use super::sign::{DESIRED, INDEX, RELEASE, SIGNATURE, contents};
use crate::model::bundle::Bundle;
use crate::update::admission::Desired;
use crate::update::index::Digest;
use crate::update::release::Release;

/// Where the bundle's files lie in a packed release.
const BUNDLE: &str = "bundle";
/// A packed release is not larger.
pub const MAX_BYTES: usize = 1 << 30;
/// Files of a packed release.
const MAX_FILES: usize = 64;

/// A release, ready to go.
#[derive(Debug)]
pub struct Load {
    /// The hash of its text.
    pub sha256: Digest,
    /// What it says.
    pub release: Release,
    /// Its signature, as the text of minisign's file.
    pub signature: String,
    pub(super) index: Vec<u8>,
    pub(super) desired: Vec<u8>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Load {
    /// Out of the folder of a release and that of its bundle.
    ///
    /// # Errors
    /// A file is missing, or not the one that was signed.
    pub fn read(dir: &Path, bundle: Option<&Path>) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path)
                .with_context(|| format!("cannot read {}; `inspectd model sign` makes a release", path.display()))
        };
        let files = || {
            let dir = bundle.context("--bundle is missing: the folder of the bundle that was signed")?;
            contents(dir, &Bundle::open(dir)?)
        };
        Self::of(read, files)
    }

    fn of(
        mut read: impl FnMut(&str) -> Result<Vec<u8>>,
        files: impl FnOnce() -> Result<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Self> {
        let text = read(RELEASE)?;
        let release = Release::read(&text)?;
        let desired = read(DESIRED)?;
        let message: Desired = serde_json::from_slice(&desired).with_context(|| format!("{DESIRED} is damaged"))?;
        ensure!(message.release.as_bytes() == text, "{DESIRED} is about another release than {RELEASE}");
        let (sha256, signature) = (Digest::of(&text), message.signature);
        let Some(spec) = release.index else {
            let (index, files) = (Vec::new(), BTreeMap::new());
            return Ok(Self { sha256, release, signature, index, desired, files });
        };
        let index = read(INDEX)?;
        ensure!(Digest::of(&index) == spec.sha256, "{INDEX} is not the one that was signed");
        let files = files()?;
        let is_of =
            |name: &str| files.get(name).map(|bytes| Digest::of(bytes)) == release.files.get(name).map(|s| s.sha256);
        let (name, version) = (&release.name, &release.version);
        ensure!(is_of("bundle.json"), "the folder holds another bundle than the one that was signed, {name} {version}");
        for (name, spec) in &release.files {
            let same = files.get(name).is_some_and(|bytes| Digest::of(bytes) == spec.sha256);
            ensure!(same, "{name} of the bundle is not the one that was signed");
        }
        Ok(Self { sha256, release, signature, index, desired, files })
    }

    /// Writes all of it into one file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn pack(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes)
        };
        let text: Desired = serde_json::from_slice(&self.desired)?;
        add(RELEASE, text.release.as_bytes())?;
        add(SIGNATURE, self.signature.as_bytes())?;
        add(DESIRED, &self.desired)?;
        if self.release.index.is_some() {
            add(INDEX, &self.index)?;
        }
        // Only what was signed; a bundle's folder may hold more.
        for (name, bytes) in self.files.iter().filter(|(name, _)| self.release.files.contains_key(*name)) {
            add(&format!("{BUNDLE}/{name}"), bytes)?;
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }

    /// Out of one file. Nothing of it is unpacked to the disk.
    ///
    /// # Errors
    /// It is no packed release, or something in it is not what was signed.
    pub fn unpack(packed: impl Read) -> Result<Self> {
        let (mut found, mut room) = (BTreeMap::new(), MAX_BYTES as u64);
        let wrong = "this is no release that `inspectd model pack` has made";
        for entry in tar::Archive::new(packed).entries().context(wrong)? {
            let entry = entry.context(wrong)?;
            ensure!(entry.header().entry_type().is_file(), "{wrong}: it holds something else than files");
            let path = entry.path().context(wrong)?.into_owned();
            let parts: Option<Vec<&str>> = path
                .components()
                .map(|part| match part {
                    Component::Normal(name) => name.to_str(),
                    _ => None,
                })
                .collect();
            let name = match parts.as_deref() {
                Some([name @ (RELEASE | SIGNATURE | DESIRED | INDEX)]) => (*name).to_owned(),
                Some([BUNDLE, .., _]) => parts.unwrap_or_default().join("/"),
                _ => bail!("{wrong}: it holds {}", path.display().to_string().escape_debug()),
            };
            ensure!(found.len() < MAX_FILES && entry.size() <= room, "{wrong}: it is too large");
            room -= entry.size();
            let mut bytes = Vec::new();
            entry.take(room + 1).read_to_end(&mut bytes).context(wrong)?;
            found.insert(name, bytes);
        }
        let prefix = format!("{BUNDLE}/");
        let files = found.extract_if(.., |name: &String, _| name.starts_with(&prefix));
        let files: BTreeMap<String, Vec<u8>> =
            files.map(|(name, bytes)| (name[prefix.len()..].to_owned(), bytes)).collect();
        Self::of(|name| found.remove(name).with_context(|| format!("{wrong}: {name} is missing")), || Ok(files))
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    pub(super) fn part(&self, part: &Part) -> Vec<u8> {
        match part {
            Part::Index => self.index.clone(),
            Part::File(name, range) => {
                self.files.get(name).and_then(|file| file.get(range.clone())).unwrap_or_default().to_vec()
            }
        }
    }
}
