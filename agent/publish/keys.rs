//! `inspectd model keygen`, and reading the keys that it makes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ct_codecs::{Base64, Decoder as _};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};

use crate::config::secret;
use crate::exit::{Exit, OrExit};
use crate::update::trust::{self, KeyId};

/// Arguments of `model keygen`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to: NAME.key is secret and readable by you alone, NAME.pub is for gateways and for minisign.
    #[arg(value_name = "NAME")]
    path: PathBuf,
    #[command(flatten)]
    password: Password,
    /// Without a password: whoever has the file can sign.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
}

/// Where the password of a secret key comes from.
#[derive(clap::Args)]
pub struct Password {
    /// File whose first line is the key's password; asked for where nothing is said.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    fn get(&self) -> Result<Option<String>> {
        if self.password_file.is_none() && File::open("/dev/tty").is_err() {
            return Err(anyhow!(
                "there is no terminal at which the key's password could be asked for: --password-file"
            ))
            .or_exit(Exit::Usage);
        }
        self.password_file.as_deref().map(secret).transpose().or_exit(Exit::NoInput)
    }
}

/// Makes the two files.
///
/// # Errors
/// One of them is there already, or cannot be made.
pub fn run(args: &Args) -> Result<()> {
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", args.path.display()));
    let (secret, public) = (with(".key"), with(".pub"));
    for path in [&secret, &public] {
        if path.exists() {
            let there = anyhow!("{} is there already; a key that is overwritten is lost for good", path.display());
            return Err(there).or_exit(Exit::CannotCreate);
        }
    }
    let pair = if args.no_password {
        KeyPair::generate_unencrypted_keypair()
    } else {
        KeyPair::generate_encrypted_keypair(args.password.get()?)
    };
    let KeyPair { pk, sk } = pair.map_err(|e| anyhow!("no key could be made: {e}"))?;
    let id = KeyId::of(&pk);
    let comment = format!("inspectd secret key {id}");
    let text = sk.to_box(Some(&comment)).map_err(|e| anyhow!("{e}"))?.into_string();
    if let Some(folder) = secret.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {}", secret.display()))
        .or_exit(Exit::CannotCreate)?;
    let line = pk.to_base64();
    fs::write(&public, format!("untrusted comment: inspectd public key {id}\n{line}\n"))
        .with_context(|| format!("cannot write {}", public.display()))
        .or_exit(Exit::CannotCreate)?;
    eprintln!("{} signs; keep it off gateways. {} is for everyone.", secret.display(), public.display());
    eprintln!("In each gateway's configuration:\n\n[update]");
    println!("keys = [\"{line}\"]");
    Ok(())
}

/// Reads a secret key; asks for its password where there is one and no file is named.
///
/// # Errors
/// The file is missing, no key, or the password is wrong.
pub fn secret_key(path: &Path, password: &Password) -> Result<SecretKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    if trust::public_key(&text).is_ok() {
        bail!("{} is a public key; what signs is the secret one, beside it: .key", path.display());
    }
    let parsed = || SecretKeyBox::from_string(&text).map_err(|e| anyhow!("{} is no secret key: {e}", path.display()));
    if let Ok(key) = parsed()?.into_unencrypted_secret_key() {
        return Ok(key);
    }
    if let Some(key) = by_minisign(&text) {
        return Ok(key);
    }
    let key = parsed()?.into_secret_key(password.get()?);
    key.map_err(|e| anyhow!("the key {} cannot be opened; is the password right? {e}", path.display()))
}

/// A key that `minisign -GW` has made, without password and with zeros where others have a checksum.
fn by_minisign(text: &str) -> Option<SecretKey> {
    let bytes = Base64::decode_to_vec(text.lines().nth(1)?, None).ok()?;
    let plain = bytes.get(2..4)? == [0; 2] && bytes.get(bytes.len().checked_sub(32)?..)? == [0; 32];
    plain.then(|| SecretKey::from_bytes(&bytes).ok()).flatten()
}

/// Reads a public key's file.
///
/// # Errors
/// It is missing or none.
pub fn public_key(path: &Path) -> Result<PublicKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    trust::public_key(&text).with_context(|| format!("{}", path.display()))
}
