//! Takes secrets out of a text. Pure.
//!
//! A configuration holds none by its form, and logs name none; this is for what somebody has written there all the same.

/// Keys whose values are secrets wherever they stand.
const KEYS: [&str; 10] =
    ["password", "passwd", "passphrase", "pwd", "pass", "secret", "token", "api_key", "apikey", "authorization"];
/// Options after whose addresses nothing is shown: their path may be the secret.
const HOOKS: [&str; 1] = ["--webhook"];
/// Lines in which the word after "password" is one.
const SAID: [&str; 2] = ["log in as", "has the new password"];
const GONE: &str = "[removed]";

/// The text without user and password in addresses, without the values of keys that name secrets, without private keys.
#[must_use]
pub fn redact(text: &str) -> String {
    let (mut out, mut in_key) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        if begins || in_key {
            in_key = !line.contains("-----END");
            if begins {
                out.push_str(GONE);
                out.push_str(end);
            }
            continue;
        }
        out.push_str(&values(&addresses(&said(&hooks(line)))));
        out.push_str(end);
    }
    out
}

/// `scheme://user:password@host` becomes `scheme://[removed]@host`. Rather too much goes than too little.
fn addresses(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        // Up to what ends an address; a password may hold anything else.
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        if host > 0 {
            out.push_str(GONE);
            out.push('@');
        }
        rest = &after[host..];
    }
    out + rest
}

/// From the first value of a key that names a secret on: `password = "x"`, `password: x`, `"password":"x"`. A name of a file
/// (`password_file`) stays.
fn values(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let cut = |key: &str| {
        lower.match_indices(key).find_map(|(at, _)| {
            let rest = lower[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            (rest.starts_with(['=', ':']) && !rest.starts_with("://")).then(|| lower.len() - rest.len() + 1)
        })
    };
    match KEYS.into_iter().filter_map(cut).min() {
        Some(cut) => format!("{} {GONE}", line[..cut].trim_end()),
        None => line.to_owned(),
    }
}

/// What the control room prints at its first start, or when somebody has lost a password.
fn said(line: &str) -> String {
    let word = "password ";
    if !SAID.iter().any(|said| line.contains(said)) {
        return line.to_owned();
    }
    let Some(at) = line.rfind(word).map(|at| at + word.len()) else { return line.to_owned() };
    let end = line[at..].find(char::is_whitespace).map_or(line.len(), |end| at + end);
    format!("{}{GONE}{}", &line[..at], &line[end..])
}

/// `--webhook https://host/path` keeps its host.
fn hooks(line: &str) -> String {
    let Some(at) = HOOKS.iter().find_map(|hook| line.find(hook).map(|at| at + hook.len())) else {
        return line.to_owned();
    };
    let from = line[at..].find("://").map_or(at, |scheme| at + scheme + 3);
    let host = line[from..].find(['/', ' ', '"', '\'']).map_or(line.len(), |end| from + end);
    let end = line[host..].find([' ', '"', '\'']).map_or(line.len(), |end| host + end);
    format!("{}{}{}", &line[..host], if end > host { "/[removed]" } else { "" }, &line[end..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go_and_all_else_stays() {
        for (text, clean) in [
            ("url = \"rtsp://me:s@cret/x@10.0.0.1:554/a\"", "url = \"rtsp://[removed]@10.0.0.1:554/a\""),
            ("a mqtt://b:1883, http://u:p@c", "a mqtt://b:1883, http://[removed]@c"),
            ("rtsp://me:pa,s'<s)@10.0.0.1/s and more", "rtsp://[removed]@10.0.0.1/s and more"),
            ("token = abc123, password = hunter2", "token = [removed]"),
            ("Authorization: Bearer abc", "Authorization: [removed]"),
            (
                "first start: log in as admin with the password Xk3 (it is not shown again), and change it",
                "first start: log in as admin with the password [removed] (it is not shown again), and change it",
            ),
            ("admin has the new password a1b2", "admin has the new password [removed]"),
            ("OPTIONS=--webhook https://h/T0/B1 --user c", "OPTIONS=--webhook https://h/[removed] --user c"),
            ("a\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb", "a\n[removed]\nb"),
            ("password = \"x y\" # why", "password = [removed]"),
            ("  \"token\":\"abc\",", "  \"token\": [removed]"),
            ("password_file = \"/etc/p\"\n", "password_file = \"/etc/p\"\n"),
            ("mail me@example", "mail me@example"),
        ] {
            assert_eq!(redact(text), clean);
        }
    }

    proptest! {
        #[test]
        fn no_password_survives_in_an_address(user in "[a-z]{1,6}", password in "[A-Z0-9:/?#@,)'<>;=]{4,12}", head in "[ a-z\"]{0,9}") {
            let clean = redact(&format!("{head}rtsp://{user}:{password}@10.0.0.1/s\" and\nmore"));
            prop_assert!(!clean.contains(&password), "{clean}");
            prop_assert!(clean.ends_with("@10.0.0.1/s\" and\nmore"), "{clean}");
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,80}") {
            let _ = redact(&text);
        }
    }
}
