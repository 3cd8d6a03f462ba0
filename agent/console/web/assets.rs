//! The page's own files. They hold no data, and are part of the program.

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::answer::Refusal;

macro_rules! page {
    ($($name:literal),* $(,)?) => {
        /// Name and bytes.
        const PAGE: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../page/", $name)))),*];
    };
}

page!(
    "actions.js",
    "alarms.js",
    "api.js",
    "charts.js",
    "commands.js",
    "detail.js",
    "dialogs.js",
    "dom.js",
    "en.js",
    "filters.js",
    "fleet.js",
    "format.js",
    "gateway.js",
    "history.js",
    "i18n.js",
    "icon.svg",
    "index.html",
    "keys.js",
    "list.js",
    "login.js",
    "main.js",
    "marks.js",
    "models.js",
    "notices.js",
    "phone.css",
    "picture.js",
    "plant.js",
    "prefs.js",
    "print.css",
    "report.js",
    "rollouts.js",
    "router.js",
    "session.js",
    "settings.js",
    "shell.js",
    "signal.js",
    "sound.js",
    "stream.js",
    "style.css",
    "theme.css",
    "views.css",
    "zh.js",
);

/// The page.
pub async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// A file of it.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    file(&name, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some((_, bytes)) = PAGE.iter().find(|(known, _)| *known == name) else {
        return Refusal::missing("there is no such file").into_response();
    };
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..12]));
    // It is asked for each time, and sent when it has changed: a new console never meets an old page.
    let fresh = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fresh).into_response();
    }
    let kind = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        _ => "application/octet-stream",
    };
    (fresh, [(CONTENT_TYPE, kind), (ETAG, tag.as_str())], *bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/console/page");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        assert_eq!(PAGE.iter().map(|(name, _)| *name).collect::<Vec<_>>(), there);
        // All scripts are asked for at once, and not one after the other as they are found.
        let index = std::str::from_utf8(PAGE.iter().find(|(name, _)| *name == "index.html").unwrap().1).unwrap();
        let scripts = there.iter().filter(|name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "js"));
        let missing: Vec<_> = scripts.filter(|name| !index.contains(&format!("/assets/{name}\""))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
