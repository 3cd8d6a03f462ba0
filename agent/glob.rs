//! Patterns in which `*` is any text, for names of classes.

/// Whether a name matches a pattern in which `*` is any text.
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("steel/*", "steel/patches", true),
            ("steel/*", "pcb/open", false),
            ("*", "", true),
            ("*/crack*", "tile/cracked", true),
            ("pcb/open", "pcb/opened", false),
            ("a*a", "a", false),
            ("*a*b*", "xbab", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
