//! Passwords in URLs, replaced before anything is printed.

/// What stands for a secret.
pub(crate) const REDACTED: &str = "***";

/// The URL with stars for its passwords. When in doubt it hides more rather than less: a password
/// with an unescaped `/`, `?` or `@` does not slip through.
pub(crate) fn redact_url(url: &str) -> String {
    rewrite(url, Some(REDACTED))
}

/// The URL without its passwords, still fit for use.
pub(crate) fn strip_url(url: &str) -> String {
    rewrite(url, None)
}

fn rewrite(url: &str, replacement: Option<&str>) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not a URL: libpq's "host=... password=..." or something else that may hold a secret.
        return if url.contains(['=', '@']) {
            replacement.unwrap_or_default().to_owned()
        } else {
            url.to_owned()
        };
    };
    let (userinfo, host) = match rest.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo), host),
        None => (None, rest),
    };
    let mut safe = format!("{scheme}://");
    if let Some(userinfo) = userinfo {
        let (user, password) = match userinfo.split_once(':') {
            Some((user, _)) => (user, replacement),
            None => (userinfo, None),
        };
        safe.push_str(user);
        if let Some(stars) = password {
            safe.push(':');
            safe.push_str(stars);
        }
        safe.push('@');
    }
    let (path, query) = host.split_once('?').unwrap_or((host, ""));
    safe.push_str(path);
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let shown = pairs.filter_map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => replacement.map(|stars| format!("{name}={stars}")),
        _ => Some(pair.to_owned()),
    });
    for (index, pair) in shown.enumerate() {
        safe.push(if index == 0 { '?' } else { '&' });
        safe.push_str(&pair);
    }
    safe
}

fn is_secret(parameter: &str) -> bool {
    let parameter = parameter.to_ascii_lowercase();
    ["pass", "secret", "token", "key_id"]
        .iter()
        .any(|word| parameter.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_disappear() {
        for (url, expected) in [
            ("postgres://feeder@db/shop", "postgres://feeder@db/shop"),
            (
                "postgres://feeder:hunter2@db/shop",
                "postgres://feeder:***@db/shop",
            ),
            (
                "postgresql://feeder:hunter2@a:5432,b:5433/shop?sslmode=require",
                "postgresql://feeder:***@a:5432,b:5433/shop?sslmode=require",
            ),
            (
                "postgres://feeder:hunt/er2@db/shop",
                "postgres://feeder:***@db/shop",
            ),
            (
                "postgres://feeder:hunt?er2@db/shop",
                "postgres://feeder:***@db/shop",
            ),
            (
                "postgres://feeder:hunt@er2@db/shop",
                "postgres://feeder:***@db/shop",
            ),
            (
                "postgres://db/shop?user=a&password=hunter2&sslpassword=hunter2",
                "postgres://db/shop?user=a&password=***&sslpassword=***",
            ),
            ("host=db password=hunter2", "***"),
            ("file:///srv/lake", "file:///srv/lake"),
            ("./lake", "./lake"),
        ] {
            assert_eq!(redact_url(url), expected);
            assert!(!redact_url(url).contains("hunt"));
        }
    }

    #[test]
    fn stripped_urls_stay_usable() {
        for (url, expected) in [
            (
                "postgres://feeder:hunter2@db/shop",
                "postgres://feeder@db/shop",
            ),
            (
                "postgres://feeder:hunter2@db/shop?password=hunter2&sslmode=require",
                "postgres://feeder@db/shop?sslmode=require",
            ),
            (
                "postgres://feeder@db/shop?sslmode=require",
                "postgres://feeder@db/shop?sslmode=require",
            ),
        ] {
            assert_eq!(strip_url(url), expected);
        }
    }
}
