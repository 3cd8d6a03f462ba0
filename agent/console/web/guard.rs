//! Who may come in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Answer, Refusal, blocking};
use crate::console::Console;
use crate::console::store::{Person, Role};

/// Wrong logins from one address, and for one name, before they are slowed down.
const FREE: [u32; 2] = [5, 20];
/// The longest wait; it doubles from 1 s.
const LONGEST: Duration = Duration::from_secs(60);
/// Wrong logins are forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Addresses and names that are remembered.
const REMEMBERED: usize = 10_000;
/// Passwords that are checked at the same time, which takes 19 MiB each,
const CHECKED: usize = 2;
/// and that wait for it.
const WAITING: usize = 32;

/// Of a route.
#[derive(Clone)]
pub struct Door {
    /// The console.
    pub console: Arc<Console>,
    /// Who may; nothing where anybody.
    pub role: Option<Role>,
}

/// Who has come in.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who it is.
    pub person: Person,
    /// The session's token; none where another system has come with its own.
    pub session: Option<String>,
    /// Which is this.
    pub token: Option<String>,
}

/// Lets somebody pass, or not.
pub async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    match pass(&door, request.method().clone(), request.headers().clone()).await {
        Ok(visitor) => {
            if let Some(visitor) = visitor {
                request.extensions_mut().insert(visitor);
            }
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn pass(door: &Door, method: Method, headers: HeaderMap) -> Answer<Option<Visitor>> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let changes = !matches!(method, Method::GET | Method::HEAD);
    if changes && bearer.is_none() && !is_own(&headers) {
        let words = "a request that changes something needs the header X-Inspectd: 1, and must come from this page";
        return Err(Refusal::Words(StatusCode::FORBIDDEN, words.to_owned()));
    }
    let (console, now) = (Arc::clone(&door.console), Timestamp::now());
    let visitor = if let Some(token) = bearer.map(ToOwned::to_owned) {
        let own = Some(token.clone());
        let person = blocking(move || console.store.of_token(&token)).await?;
        person.map(|person| Visitor { person, session: None, token: own })
    } else if let Some(token) = cookie(&headers, door.console.is_secure) {
        let session = Some(token.clone());
        let person = blocking(move || console.store.in_session(&token, now)).await?;
        person.map(|person| Visitor { person, session, token: None })
    } else {
        None
    };
    let Some(role) = door.role else { return Ok(visitor) };
    match visitor {
        None => Err(Refusal::Words(StatusCode::UNAUTHORIZED, "log in first".to_owned())),
        Some(visitor) if visitor.person.role < role => {
            Err(Refusal::Words(StatusCode::FORBIDDEN, "only an engineer may do that".to_owned()))
        }
        Some(visitor) => Ok(Some(visitor)),
    }
}

/// Whether a request comes from our page: no other site can set this header without being asked first, and browsers say where a request
/// comes from.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_near = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_origin = text(ORIGIN.as_str()).is_none_or(|origin| origin.split_once("://").is_some_and(|(_, o)| o == host));
    headers.contains_key("x-inspectd") && is_near && is_origin
}

/// The name of the cookie.
#[must_use]
pub fn cookie_name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-inspectd" } else { "inspectd" }
}

fn cookie(headers: &HeaderMap, is_secure: bool) -> Option<String> {
    let name = cookie_name(is_secure);
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(';'))
        .find_map(|pair| Some(pair.trim().strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// What every answer says to the browser.
pub async fn harden(mut response: Response) -> Response {
    const ALWAYS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
             font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Slows down who guesses.
#[derive(Clone)]
pub struct Guard {
    wrong: Arc<Mutex<HashMap<String, (u32, Instant)>>>,
    checks: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Guard {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { wrong: Arc::default(), checks: semaphore(CHECKED), waiting: semaphore(WAITING) }
    }
}

impl Guard {
    /// Waits for the turn of a check. It counts as a wrong one from then on, until it is [`Turn::right`]: whoever hangs up before the
    /// end, or tries many at once, is counted all the same.
    ///
    /// # Errors
    /// It is not to be tried yet.
    pub async fn turn(&self, ConnectInfo(from): ConnectInfo<SocketAddr>, name: &str) -> Answer<Turn> {
        let keys =
            [from.ip().to_canonical().to_string(), format!("name {}", name.chars().take(64).collect::<String>())];
        self.admit(&keys, Instant::now())?;
        let _waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Refusal::Slower(1))?;
        let permit = Arc::clone(&self.checks).acquire_owned().await.map_err(|e| Refusal::Broken(e.into()))?;
        self.count(&keys, Instant::now())?;
        Ok(Turn { guard: self.clone(), keys, _permit: permit })
    }

    fn admit(&self, keys: &[String; 2], now: Instant) -> Answer<()> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let waits =
            keys.iter().zip(FREE).map(|(key, free)| wrong.get(key).map_or(Duration::ZERO, |w| left(*w, free, now)));
        let wait = waits.max().unwrap_or_default();
        if wait.is_zero() { Ok(()) } else { Err(Refusal::Slower(wait.as_secs() + 1)) }
    }

    /// One more that may be wrong.
    fn count(&self, keys: &[String; 2], now: Instant) -> Answer<()> {
        self.admit(keys, now)?;
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if wrong.len() >= REMEMBERED {
                wrong.retain(|_, (_, at)| now.saturating_duration_since(*at) < FORGOTTEN);
            }
            if wrong.len() >= REMEMBERED && !wrong.contains_key(key) {
                // So many names or addresses at once are an attack: the one that is oldest makes room.
                let oldest = wrong.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
                oldest.map(|key| wrong.remove(&key));
            }
            let (count, at) = wrong.entry(key.clone()).or_insert((0, now));
            *count = if now.saturating_duration_since(*at) > FORGOTTEN { 1 } else { *count + 1 };
            *at = now;
        }
        Ok(())
    }
}

/// A check that may be made; it is counted as a wrong one.
pub struct Turn {
    guard: Guard,
    keys: [String; 2],
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// It was right, and what was wrong before is forgotten.
    pub fn right(&self) {
        let mut wrong = self.guard.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|key, _| !self.keys.contains(key));
    }
}

/// How long the next attempt has to wait.
fn left((count, at): (u32, Instant), free: u32, now: Instant) -> Duration {
    let since = now.saturating_duration_since(at);
    if count < free || since > FORGOTTEN {
        return Duration::ZERO;
    }
    let wait = Duration::from_secs(1 << (count - free).min(10)).min(LONGEST);
    wait.saturating_sub(since)
}

/// The address without its port, for the log.
#[must_use]
pub fn host(from: &SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_another_site_sends_is_not_taken() {
        let host = ("host", "panel:8080");
        assert!(is_own(&headers(&[host, ("x-inspectd", "1")])));
        assert!(is_own(&headers(&[
            host,
            ("x-inspectd", "1"),
            ("origin", "http://panel:8080"),
            ("sec-fetch-site", "same-origin")
        ])));
        assert!(!is_own(&headers(&[host])), "a form of another site cannot set the header");
        assert!(!is_own(&headers(&[host, ("x-inspectd", "1"), ("origin", "http://evil:8080")])));
        assert!(!is_own(&headers(&[host, ("x-inspectd", "1"), ("origin", "null")])));
        assert!(!is_own(&headers(&[host, ("x-inspectd", "1"), ("sec-fetch-site", "cross-site")])));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let text = headers(&[("cookie", "a=b; inspectd=token; c=d")]);
        assert_eq!(cookie(&text, false).as_deref(), Some("token"));
        assert_eq!(cookie(&text, true), None, "one that came in the clear is none over HTTPS");
        assert_eq!(cookie(&headers(&[("cookie", "inspectd2=x")]), false), None);
    }

    #[test]
    fn who_guesses_waits_longer_and_longer() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let waits: Vec<u64> = [4, 5, 6, 7, 10, 11, 50].iter().map(|n| left((*n, now), 5, now).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 32, 60, 60]);
        assert_eq!(left((6, now), 5, now + second), second);
        assert_eq!(left((50, now), 5, now + FORGOTTEN + second), Duration::ZERO);
    }

    #[test]
    fn a_thousand_wrong_logins_are_eight_checks() {
        let (guard, begun) = (Guard::default(), Instant::now());
        let keys = |n: u64| ["10.0.0.9".to_owned(), format!("name user-{n}")];
        // 100 a second, for ten seconds: five at once, then after 1, 2 and 4 s.
        let checks =
            (0..1000).filter(|n| guard.count(&keys(*n), begun + Duration::from_millis(10 * n)).is_ok()).count();
        assert_eq!(checks, 8);
        let other = ["10.0.0.10".to_owned(), "name operator".to_owned()];
        assert!(guard.admit(&other, begun).is_ok(), "nobody else is held up");
    }

    #[tokio::test]
    async fn many_at_once_and_those_that_hang_up_are_counted() {
        let guard = Guard::default();
        let from = || ConnectInfo("10.0.0.9:1234".parse::<SocketAddr>().unwrap());
        let turns: Vec<_> = (0..100).map(|_| guard.turn(from(), "ann")).collect();
        let mut checked = 0;
        for turn in turns {
            checked += usize::from(turn.await.is_ok()); // and dropped, as where the client has gone
        }
        assert_eq!(checked, 5);
        let fresh = Guard::default();
        for _ in 0..20 {
            fresh.turn(from(), "ann").await.unwrap().right();
        }
    }
}
