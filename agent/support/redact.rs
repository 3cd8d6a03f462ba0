//! Takes secrets out of a text. Pure.
//!
//! A configuration holds none by its form, and logs name none; this is for what somebody has written there all the same.

/// Keys whose values are secrets wherever they stand.
const KEYS: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "apikey"];
const GONE: &str = "[removed]";

/// The text without user and password in addresses, and without the values of keys that name secrets.
#[must_use]
pub fn redact(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        format!("{}{end}", addresses(&values(line)))
    });
    lines.collect()
}

/// `scheme://user:password@host` becomes `scheme://[removed]@host`.
fn addresses(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        // Up to what ends an address; a password may hold a slash.
        let end = after.find([' ', '"', '\'', '<', '>', ')', ',']).unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        if host > 0 {
            out.push_str(GONE);
            out.push('@');
        }
        rest = &after[host..];
    }
    out + rest
}

/// `password = "x"`, `password: x`, `"password":"x"`; a name of a file (`password_file`) stays.
fn values(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    for key in KEYS {
        let mut from = 0;
        while let Some(at) = lower[from..].find(key).map(|at| from + at) {
            let after = at + key.len();
            let rest = lower[after..].trim_start_matches(['"', '\'']).trim_start();
            if rest.starts_with(['=', ':']) && !lower[after..].starts_with("://") {
                let cut = lower.len() - rest.len() + 1;
                return format!("{} {GONE}", line[..cut].trim_end());
            }
            from = after;
        }
    }
    line.to_owned()
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
        fn no_password_survives_in_an_address(user in "[a-z]{1,6}", password in "[A-Z0-9:/?#@]{4,12}", head in "[ a-z=\"]{0,9}") {
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
